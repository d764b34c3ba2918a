#include "cpp/ops/attention/attention_backward.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status AttentionGradientProblem::check() {
  LONGSPAN_RETURN_IF_ERROR(AttentionProblem::check());
  const TensorView output = fresh(q.dtype, queryHeads(), queries(), valueDim());
  const TensorView statistic =
      TensorView::ofShape(statistics(), {batch(), queryHeads(), queries()});
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("o", o, "q", q));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("o", o, "attention(q, k, v)", output));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("lse", lse, statistic.dtype));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("lse", lse, "the log-sum-exp", statistic));
  if (gradO.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype("gradO", gradO, "q", q));
    LONGSPAN_RETURN_IF_ERROR(check::sameShape("gradO", gradO, "o", o));
  }
  if (gradLse.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype("gradLse", gradLse, "lse", lse));
    LONGSPAN_RETURN_IF_ERROR(check::sameShape("gradLse", gradLse, "lse", lse));
  }
  return {};
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
