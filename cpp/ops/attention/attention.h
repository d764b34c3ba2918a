// attention: softmax(scale * q k^T, masked) v without the matrix of scores, attention family.
#pragma once

#include "cpp/ops/attention/problem.h"

namespace longspan::ops {

struct Attention : AttentionProblem {
  static constexpr const char* name = "attention";
  bool withLse = false;
  TensorView o, lse;  // o like q with the head dimension of v; lse [B, Hq, N], natural logarithm

  template <class V>
  void fields(V& v_) {
    tensors(v_);
    options(v_);
    v_.flag("withLse", withLse);
    v_.output("o", o);
    v_.output("lse", lse);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_BY_LEVEL(size_t, attentionWorkspace, const ops::Attention&, int)
LONGSPAN_CPU_KERNEL(ops::Attention, attention)
}  // namespace longspan::cpu
