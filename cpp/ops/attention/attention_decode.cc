#include "cpp/ops/attention/attention_decode.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status AttentionDecode::validate() {
  causal = true;
  LONGSPAN_RETURN_IF_ERROR(AttentionProblem::check());
  if (q.dtype == DType::f64) {
    return Status(Code::dtype, "q", describe(q),
                  "Decode in f32, bf16 or f16; attention() takes f64");
  }
  o = fresh(q.dtype, queryHeads(), queries(), valueDim());
  if (withLse) lse = TensorView::ofShape(DType::f32, {batch(), queryHeads(), queries()});
  return {};
}

size_t AttentionDecode::workspace(int threads) const {
  return cpu::attentionDecodeWorkspaceByLevel()(*this, threads);
}

LONGSPAN_OPERATOR(AttentionDecode, attentionDecode);

}  // namespace longspan::ops
