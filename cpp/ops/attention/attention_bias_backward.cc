#include "cpp/ops/attention/attention_bias_backward.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status AttentionBiasBackward::validate() {
  if (!bias.defined()) {
    return Status(Code::value, "bias", "nothing", "Give the bias whose gradient it is");
  }
  gradBias = TensorView::like(bias);
  LONGSPAN_RETURN_IF_ERROR(AttentionGradientProblem::check());
  spread_ = gradBias;
  return check::broadcastTo(
      "bias", spread_, "the scores",
      TensorView::ofShape(q.dtype, {batch(), queryHeads(), queries(), keys()}));
}

size_t AttentionBiasBackward::workspace(int threads) const {
  return cpu::attentionBiasBackwardWorkspaceByLevel()(*this, threads);
}

LONGSPAN_OPERATOR(AttentionBiasBackward, attentionBiasBackward);

}  // namespace longspan::ops
