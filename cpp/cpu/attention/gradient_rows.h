// What the backward passes of attention read of one sequence.
#pragma once

#include "cpp/cpu/attention/band.h"
#include "cpp/ops/attention/attention_backward.h"

namespace longspan::cpu {

// Its rows as those of the only batch entry, with the axes [B, H, tokens, dim].
struct GradientRows {
  const ops::AttentionGradientProblem& p;
  const Band& band;
  TensorView q, k, v, o, gradO;  // gradO may be absent

  GradientRows(const ops::AttentionGradientProblem& problem, const Band& b)
      : p(problem),
        band(b),
        q(queryRowsOf(p.headMajor(p.q), b)),
        k(keyRowsOf(p.headMajor(p.k), b)),
        v(keyRowsOf(p.headMajor(p.v), b)),
        o(queryRowsOf(p.headMajor(p.o), b)) {
    if (p.gradO.defined()) gradO = queryRowsOf(p.headMajor(p.gradO), b);
  }
  // An element of a [B, Hq, N] tensor.
  template <class T>
  T statistic(const TensorView& t, int64_t h, int64_t i) const {
    return t.data<T>()[band.entry * t.stride[0] + h * t.stride[1] +
                       (band.queryBegin + i) * t.stride[2]];
  }
};

}  // namespace longspan::cpu
