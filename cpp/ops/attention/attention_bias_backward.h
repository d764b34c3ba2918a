// attentionBiasBackward: the gradient of attention with respect to its bias, attention family.
#pragma once

#include "cpp/ops/attention/attention_backward.h"

namespace longspan::ops {

// A pass of its own over the scores: each element of the gradient is summed by one worker over
// everything the bias is repeated over, in a fixed order and without a matrix of scores.
struct AttentionBiasBackward : AttentionGradientProblem {
  static constexpr const char* name = "attentionBiasBackward";
  TensorView gradBias;  // like the bias

  template <class V>
  void fields(V& v_) {
    inputs(v_);
    v_.output("gradBias", gradBias);
  }
  Status validate();
  size_t workspace(int threads) const;

  // gradBias as the scores see it: [B, Hq, N, M], with strides of 0 along the axes that are summed.
  TensorView target() const {
    TensorView t = spread_;
    t.base = gradBias.base;
    return t;
  }

 private:
  TensorView spread_;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_BY_LEVEL(size_t, attentionBiasBackwardWorkspace, const ops::AttentionBiasBackward&, int)
LONGSPAN_CPU_KERNEL(ops::AttentionBiasBackward, attentionBiasBackward)
}  // namespace longspan::cpu
