// Products of tokens with a few columns, kept in registers: for hashing and for the nearest
// centroid. A tile of tokens lies transposed in the first cache, tokens in lanes, so that what is
// found among the columns (a maximum, its place) is found lane by lane as they come, and the matrix
// of products is never written. 2 D FLOPs per token and column, at the speed of GEMM's inner loop.
#pragma once

#include <algorithm>
#include <atomic>
#include <limits>

#include "cpp/cpu/attention/head_rows.h"
#include "cpp/cpu/tile.h"
#include "cpp/ops/sparse/tokens.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

// Tokens of a tile.
template <class A>
inline constexpr int kTileTokens = kTileVectors * kLanesOf<A>;
static_assert(kTileTokens<float> <= ops::kMostTileTokens);

// target[d * kTileTokens + i] = x[b, h, first + i, d]; 0 for what is beyond `count`.
template <class A>
inline void loadTokens(const TensorView& x, int64_t b, int64_t h, int64_t first, int64_t count,
                       A* target) {
  constexpr int64_t kTokens = kTileTokens<A>;
  const int64_t dim = x.shape[3], row = x.stride[2], step = x.stride[3];
  if (count < kTokens) std::fill_n(target, dim * kTokens, A{0});
  dispatchFloating(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* from = x.data<T>() + b * x.stride[0] + h * x.stride[1] + first * row;
    if constexpr (std::is_same_v<A, float> && !std::is_same_v<T, double>) {
      if (step == 1) {
        transposeBlock(from, row, count, dim, target, kTokens);
        return;
      }
    }
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t d = 0; d < dim; ++d) {
        target[d * kTokens + i] = static_cast<A>(load(from[i * row + d * step]));
      }
    }
  });
}

// Copies columns [.., D] of any type and stride to rows of A; `axis` is that of D.
template <class A>
inline void packColumns(const TensorView& t, int axis, A* target) {
  TensorView last = t;  // with D as the last axis
  for (int i = axis; i + 1 < t.rank; ++i) {
    last.shape[i] = t.shape[i + 1];
    last.stride[i] = t.stride[i + 1];
  }
  last.shape[t.rank - 1] = t.shape[axis];
  last.stride[t.rank - 1] = t.stride[axis];
  const int64_t dim = t.shape[axis], step = t.stride[axis];
  const int64_t rows = dim == 0 ? 0 : last.numel() / dim;
  dispatchFloating(t.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* data = t.data<T>();
    for (int64_t row = 0; row < rows; ++row, target += dim) {
      int64_t rest = row, at = 0;
      for (int d = last.rank - 2; d >= 0; --d) {
        at += rest % last.shape[d] * last.stride[d];
        rest /= last.shape[d];
      }
      for (int64_t i = 0; i < dim; ++i) target[i] = static_cast<A>(load(data[at + i * step]));
    }
  });
}

// Calls found(column, products) for columns [0, n) of `dim` elements each; products[v] are those of
// the tile's vector v of tokens.
template <class A, class F>
LONGSPAN_INLINE void eachColumn(const A* tokens, int64_t dim, const A* columns, int64_t n,
                                F&& found) {
  constexpr int64_t kTokens = kTileTokens<A>;
  const auto some = [&](auto few, int64_t first) {
    constexpr int kColumns = decltype(few)::value;
    Vector<A> products[kColumns][kTileVectors];
    tileClear(products);
    tileMultiply(dim, columns + first * dim, 1, dim, tokens, kTokens, products);
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) found(first + c, products[c]);
  };
  int64_t c = 0;
  for (; c + kTileRows <= n; c += kTileRows) some(std::integral_constant<int, kTileRows>{}, c);
  for (; c < n; ++c) some(std::integral_constant<int, 1>{}, c);
}

// The largest products so far and their columns; the first of equal ones.
template <class A>
struct LargestProducts {
  Vector<A> most[kTileVectors], at[kTileVectors];

  LONGSPAN_INLINE LargestProducts() {
    for (int v = 0; v < kTileVectors; ++v) {
      most[v] = vbroadcast(-std::numeric_limits<A>::infinity());
      at[v] = Vector<A>{};
    }
  }
  LONGSPAN_INLINE void take(int64_t column, const Vector<A> (&products)[kTileVectors]) {
    const Vector<A> place = vbroadcast(static_cast<A>(column));
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      const auto above = products[v] > most[v];
      most[v] = vselect(above, products[v], most[v]);
      at[v] = vselect(above, place, at[v]);
    }
  }
};

// Sums of squares of the tile's tokens. NaN or infinity where an element is.
template <class A>
LONGSPAN_INLINE void squaresOf(const A* tokens, int64_t dim, Vector<A> (&sums)[kTileVectors]) {
  for (auto& sum : sums) sum = Vector<A>{};
  for (int64_t d = 0; d < dim; ++d, tokens += kTileTokens<A>) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      const Vector<A> x = vload(tokens + v * kLanesOf<A>);
      sums[v] = vfma(x, x, sums[v]);
    }
  }
}

// Where vectors that cannot be compared were met first.
class NotFinite {
 public:
  void record(int64_t token) {
    int64_t seen = first_.load(std::memory_order_relaxed);
    while (token < seen && !first_.compare_exchange_weak(seen, token)) {
    }
  }
  // `token` counted over [B, H, N].
  Status status(const char* field, const TensorView& x) const {
    const int64_t token = first_.load();
    if (token == INT64_MAX) return {};
    const int64_t n = x.shape[2], h = token / n % x.shape[1];
    return Status(Code::failed, field,
                  "NaN or infinite in batch entry " + std::to_string(token / n / x.shape[1]) +
                      ", head " + std::to_string(h) + ", token " + std::to_string(token % n),
                  "Vectors that are compared must be finite: look where they come from, or give "
                  "the lengths that leave padding out");
  }

 private:
  std::atomic<int64_t> first_{INT64_MAX};
};

// Calls body(b, h, first, count, tokens, squares) for tiles that cover all tokens but padding, from
// any thread; squares are the tokens' sums of squares. Tokens that are not finite are recorded.
template <class A, class Pool, class F>
inline void forTokenTiles(Pool& pool, const TensorView& x, const TensorView& lengths, A* scratch,
                          NotFinite& notFinite, F&& body) {
  constexpr int64_t kTokens = kTileTokens<A>;
  const int64_t batch = x.shape[0], heads = x.shape[1], n = x.shape[2], dim = x.shape[3];
  const int64_t tiles = (n + kTokens - 1) / kTokens;
  pool.forEach(batch * heads * tiles, [&](int64_t item, int thread) {
    const int64_t first = item % tiles * kTokens, h = item / tiles % heads,
                  b = item / tiles / heads;
    const int64_t length = lengths.defined() ? lengths.data<int32_t>()[b] : n;
    const int64_t count = std::clamp<int64_t>(std::min(length, n) - first, 0, kTokens);
    A* tokens = scratch + thread * dim * ops::kMostTileTokens;
    alignas(64) A squares[kTokens];
    if (count > 0) {
      loadTokens(x, b, h, first, count, tokens);
      Vector<A> sums[kTileVectors];
      squaresOf(tokens, dim, sums);
      for (int v = 0; v < kTileVectors; ++v) vstore(squares + v * kLanesOf<A>, sums[v]);
      for (int64_t i = 0; i < count; ++i) {
        if (!(squares[i] < std::numeric_limits<A>::infinity())) {
          notFinite.record((b * heads + h) * n + first + i);
        }
      }
    }
    body(b, h, first, count, tokens, squares);
  });
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
