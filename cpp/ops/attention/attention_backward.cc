#include "cpp/ops/attention/attention_backward.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status AttentionGradientProblem::check() {
  LONGSPAN_RETURN_IF_ERROR(AttentionProblem::check());
  const TensorView output = fresh(q.dtype, queryHeads(), queries(), valueDim());
  const TensorView statistic =
      TensorView::ofShape(statistics(), {batch(), queryHeads(), queries()});
  return checkResults({o, lse, gradO, gradLse}, output, statistic);
}

Status AttentionBackward::validate() {
  LONGSPAN_RETURN_IF_ERROR(AttentionGradientProblem::check());
  if (withGradSinks) {
    if (!sinks.defined()) {
      return Status(Code::value, "withGradSinks", "true", "Give the sinks whose gradient it is");
    }
    gradSinks = TensorView::like(sinks);
  }
  gradQ = TensorView::like(q);
  gradK = TensorView::like(k);
  gradV = TensorView::like(v);
  return {};
}

size_t AttentionBackward::workspace(int threads) const {
  return cpu::attentionBackwardWorkspaceByLevel()(*this, threads);
}

LONGSPAN_OPERATOR(AttentionBackward, attentionBackward);

}  // namespace longspan::ops
