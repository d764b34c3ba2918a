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
  template <class A>
  LONGSPAN_INLINE void put(A* row, Vector<A> x) const {
    vstore(row + at, x);
  }
};

struct PartVector {
  int64_t at;
  int lanes;
  template <class A>
  LONGSPAN_INLINE Vector<A> operator()(const A* row) const {
    return vloadPart(row + at, lanes);
  }
  template <class A>
  LONGSPAN_INLINE void put(A* row, Vector<A> x) const {
    vstorePart(row + at, x, lanes);
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

// out[i] = value(get), and their sum in the order of sumRow.
template <class A, class F>
LONGSPAN_INLINE A mapAndSumRow(int64_t n, A* out, F&& value) {
  return sumRow<A>(n, [&](auto get) {
    const Vector<A> y = value(get);
    get.put(out, y);
    return y;
  });
}

// out[i] = value(get). out may be one of the rows read.
template <class A, class F>
LONGSPAN_INLINE void mapRow(int64_t n, A* out, F&& value) {
  constexpr int L = kLanesOf<A>;
  int64_t i = 0;
  for (; i + L <= n; i += L) vstore(out + i, value(WholeVector{i}));
  if (i < n) {
    const PartVector part{i, static_cast<int>(n - i)};
    part.put(out, value(part));
  }
}

// Largest element, -inf for an empty row. NaN is passed over: sums that follow carry it.
template <class A>
LONGSPAN_INLINE A maxRow(int64_t n, const A* x) {
  constexpr int L = kLanesOf<A>;
  const Vector<A> least = vbroadcast(-std::numeric_limits<A>::infinity());
  Vector<A> most[4] = {least, least, least, least};
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L) {
    for (int k = 0; k < 4; ++k) most[k] = vmax(vload(x + i + k * L), most[k]);
  }
  for (; i + L <= n; i += L) most[0] = vmax(vload(x + i), most[0]);
  A best = vmaximum(vmax(vmax(most[0], most[1]), vmax(most[2], most[3])));
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
