// Reductions and maps over rows of float or double, written once for whole vectors and their rest.
//
// The row functions take `get`, which loads a vector at the current position of any row:
//   sumRow<A>(n, [&](auto get) { return get(x) * get(y); });
#pragma once

#include <limits>

#include "cpp/cpu/exponential.h"
#include "cpp/cpu/simd.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

struct WholeVector {
  int64_t at;
  template <class A>
  LONGSPAN_INLINE Vector<A> operator()(const A* row) const {
    return vload(row + at);
  }
};

struct PartVector {
  int64_t at;
  int lanes;
  template <class A>
  LONGSPAN_INLINE Vector<A> operator()(const A* row) const {
    return vloadPart(row + at, lanes);
  }
};

// Sum of term(get) over a row. Four partial vectors, then pairwise: the order depends on n alone.
template <class A, class F>
LONGSPAN_INLINE A sumRow(int64_t n, F&& term) {
  constexpr int L = kLanesOf<A>;
  Vector<A> sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    for (int k = 0; k < 4; ++k) sum[k] += term(WholeVector{i + k * L});
  }
  for (; i + L <= n; i += L) sum[0] += term(WholeVector{i});
  A rest = 0;
  if (i < n) {
    A lane[L];
    vstore(lane, term(PartVector{i, static_cast<int>(n - i)}));
    for (int l = 0; l < n - i; ++l) rest += lane[l];
  }
  return vsum((sum[0] + sum[1]) + (sum[2] + sum[3])) + rest;
}

// out[i] = value(get). out may be one of the rows read.
template <class A, class F>
LONGSPAN_INLINE void mapRow(int64_t n, A* out, F&& value) {
  constexpr int L = kLanesOf<A>;
  int64_t i = 0;
  for (; i + L <= n; i += L) vstore(out + i, value(WholeVector{i}));
  if (i < n) {
    const int lanes = static_cast<int>(n - i);
    vstorePart(out + i, value(PartVector{i, lanes}), lanes);
  }
}

// Largest element, -inf for an empty row. NaN is passed over: sums that follow carry it.
template <class A>
LONGSPAN_INLINE A maxRow(int64_t n, const A* x) {
  constexpr int L = kLanesOf<A>;
  A best = -std::numeric_limits<A>::infinity();
  Vector<A> most = vbroadcast(best);
  int64_t i = 0;
  for (; i + L <= n; i += L) most = vmax(vload(x + i), most);
  best = vmaximum(most);
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
