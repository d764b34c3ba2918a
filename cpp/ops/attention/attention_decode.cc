#include "cpp/ops/attention/attention_decode.h"

namespace longspan::ops {

Status AttentionDecode::validate() {
  causal = true;
  LONGSPAN_RETURN_IF_ERROR(AttentionProblem::check());
  o = fresh(q.dtype, queryHeads(), queries(), valueDim());
  if (withLse) lse = TensorView::ofShape(statistics(), {batch(), queryHeads(), queries()});
  return {};
}

size_t AttentionDecode::workspace(int threads) const {
  return cpu::attentionDecodeWorkspaceByLevel()(*this, threads);
}

LONGSPAN_OPERATOR(AttentionDecode, attentionDecode);

}  // namespace longspan::ops
