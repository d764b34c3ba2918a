// attentionBackward: gradients of attention with respect to q, k, v and sinks, attention family;
// that of the bias is attentionBiasBackward.
#pragma once

#include "cpp/ops/attention/problem.h"

namespace longspan::ops {

// What a backward pass is given.
struct AttentionGradientProblem : AttentionProblem {
  TensorView o, lse;          // what attention returned
  TensorView gradO, gradLse;  // absent: zero

  template <class V>
  void inputs(V& v_) {
    tensors(v_);
    v_.input("o", o);
    v_.input("lse", lse);
    v_.optional("gradO", gradO);
    v_.optional("gradLse", gradLse);
    options(v_);
  }
  Status check();
};

struct AttentionBackward : AttentionGradientProblem {
  static constexpr const char* name = "attentionBackward";
  bool withGradSinks = false;
  TensorView gradQ, gradK, gradV;
  TensorView gradSinks;  // [Hq]

  template <class V>
  void fields(V& v_) {
    inputs(v_);
    v_.flag("withGradSinks", withGradSinks);
    v_.output("gradQ", gradQ);
    v_.output("gradK", gradK);
    v_.output("gradV", gradV);
    v_.output("gradSinks", gradSinks);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_BY_LEVEL(size_t, attentionBackwardWorkspace, const ops::AttentionBackward&, int)
LONGSPAN_CPU_KERNEL(ops::AttentionBackward, attentionBackward)
}  // namespace longspan::cpu
