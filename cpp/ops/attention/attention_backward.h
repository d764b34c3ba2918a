// attentionBackward: gradients of attention with respect to q, k and v, attention family.
#pragma once

#include "cpp/ops/attention/problem.h"

namespace longspan::ops {

struct AttentionBackward : AttentionProblem {
  static constexpr const char* name = "attentionBackward";
  TensorView o, lse;          // what attention returned
  TensorView gradO, gradLse;  // absent: zero
  TensorView gradQ, gradK, gradV;

  template <class V>
  void fields(V& v_) {
    tensors(v_);
    v_.input("o", o);
    v_.input("lse", lse);
    v_.optional("gradO", gradO);
    v_.optional("gradLse", gradLse);
    options(v_);
    v_.output("gradQ", gradQ);
    v_.output("gradK", gradK);
    v_.output("gradV", gradV);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_BY_LEVEL(size_t, attentionBackwardWorkspace, const ops::AttentionBackward&, int)
LONGSPAN_CPU_KERNEL(ops::AttentionBackward, attentionBackward)
}  // namespace longspan::cpu
