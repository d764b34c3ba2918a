// Single tokens as arrays of the type arithmetic is done in, and what spherical k-means asks of
// them.
#pragma once

#include "cpp/cpu/chunk.h"
#include "cpp/ops/sparse/tokens.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

static_assert(ops::kMostDim <= kChunk);

// Token n of head (b, h), in place or through scratch.
template <class A>
inline const A* tokenRow(const TensorView& x, int64_t b, int64_t h, int64_t n, A* scratch) {
  const int64_t at = b * x.stride[0] + h * x.stride[1] + n * x.stride[2];
  return loadChunk(x, at, x.stride[3], x.shape[3], scratch);
}

template <class A>
inline A dot(const A* a, const A* b, int64_t n) {
  Vector<A> sum{};
  int64_t i = 0;
  for (; i + kLanesOf<A> <= n; i += kLanesOf<A>) sum = vfma(vload(a + i), vload(b + i), sum);
  A total = vsum(sum);
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

// 1 / |x|; vectors shorter than 1e-12 are taken for that long.
template <class A>
inline A inverseLength(A squares) {
  return A{1} / std::max(std::sqrt(squares), static_cast<A>(1e-12));
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
