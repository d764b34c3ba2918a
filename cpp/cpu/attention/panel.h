// A panel of queries and its online softmax.
//
// Vector lanes are queries: scores are computed as S^T [key][query], so that maximum, exponential,
// sum and rescaling are all vertical and only Q is transposed. Keys and values are read row-major
// as broadcast operands.
//
// Online softmax (Milakov and Gimelshein 2018; tiled as in FlashAttention, Dao et al. 2022) in base
// 2. A lane's maximum is raised only when a score exceeds it by more than kSlack, or by its first
// visible key: O and the sum are rarely rescaled. The decision is taken lane by lane, so a query's
// result never depends on the others of its panel.
//
// A tile that a mask crosses, as on the diagonal of a causal mask, costs what is visible: vectors
// of queries that see none of a few keys are left out of both products, and lanes are compared with
// their bounds only where these fall.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "cpp/cpu/attention/head_rows.h"
#include "cpp/cpu/attention/score.h"
#include "cpp/cpu/attention/terms.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

// Keys per tile: the tile of P, [kKeyTile][64] at v4, shares the first-level cache with Q^T.
inline constexpr int64_t kKeyTile = 64;

// Keys [begin, begin + count) of one head; rows are zero up to a multiple of the panel's kRows.
struct KeyTile {
  int64_t begin, count;
  HeadRows k, v;
};

// Rows of the next tile, which packing will read far apart in memory: fetched into the second-level
// cache a few at a time, behind the products of this tile.
class RowsAhead {
 public:
  RowsAhead() = default;
  // `each` rows of both views at a time.
  RowsAhead(const TensorView& k, const TensorView& v, int64_t b, int64_t h, int64_t row,
            int64_t rows, int64_t each)
      : rows_(rows), each_(each) {
    const TensorView* const views[] = {&k, &v};
    for (int i = 0; i < 2; ++i) {
      const TensorView& t = *views[i];
      const auto size = static_cast<int64_t>(sizeOf(t.dtype));
      run_[i] = {t.base + (t.offset + b * t.stride[0] + h * t.stride[1] + row * t.stride[2]) * size,
                 t.stride[2] * size, t.stride[3] == 1 ? t.shape[3] * size : 0};
    }
  }
  LONGSPAN_INLINE void fetch() {
    for (const int64_t end = std::min(row_ + each_, rows_); row_ < end; ++row_) {
      for (const Run& run : run_) {
        for (int64_t at = 0; at < run.bytes; at += 64) {
          __builtin_prefetch(run.first + row_ * run.step + at, 0, 2);
        }
      }
    }
  }

 private:
  struct Run {
    const std::byte* first;
    int64_t step, bytes;
  };
  Run run_[2] = {};
  int64_t row_ = 0, rows_ = 0, each_ = 0;
};

// NR vectors of queries. kSkips: vectors that a mask hides from a few keys are left out, which pays
// where the queries of a panel see different keys, and costs as many copies of the products.
template <int NR, bool kSkips = (NR > 1)>
struct Panel {
  static constexpr int kWidth = NR * kLanes;
  // Rows per register tile: enough accumulators to hide the latency of FMA.
  static constexpr int kRows = NR == 1 ? 2 * kTileRows : kTileRows;
  static constexpr float kSlack = 8.0f;

  int64_t dim = 0, valueDim = 0;
  int64_t rows = 0;
  float* qt = nullptr;                 // [dim][kWidth]
  float* ot = nullptr;                 // [padded valueDim][kWidth], not yet divided by the sum
  int32_t lo[kWidth], hi[kWidth];      // keys each lane sees
  int64_t fullBegin = 0, fullEnd = 0;  // keys that every lane sees
  struct Bounds {
    int64_t fullBegin, fullEnd, end;  // keys that all lanes see; the end of what any sees
  };
  Bounds bounds[NR];  // of each vector
  Range range;        // keys that any lane sees
  vf maximum[NR], sum[NR];
  bool opened = false;  // whether a tile has been taken

  static int64_t paddedDim(int64_t dim) { return roundUp(dim, kRows); }
  void takeScratch(Scratch& scratch, int64_t d, int64_t dv) {
    dim = d;
    valueDim = dv;
    qt = scratch.take(d * kWidth);
    ot = scratch.take(paddedDim(dv) * kWidth);
  }

  // bounds(lane) gives the interval of keys that a lane sees.
  template <class BoundsOf>
  void start(HeadRows q, int64_t count, BoundsOf&& boundsOf) {
    rows = count;
    transposeBlock(q.data, q.stride, rows, dim, qt, kWidth);
    const int64_t filled = roundUp(rows, kLanes);
    for (int64_t d = 0; d < dim && filled < kWidth; ++d) {
      std::fill(qt + d * kWidth + filled, qt + (d + 1) * kWidth, 0.0f);
    }
    std::memset(ot, 0, static_cast<size_t>(paddedDim(valueDim) * kWidth) * sizeof(float));
    for (int v = 0; v < NR; ++v) maximum[v] = sum[v] = vf{};
    opened = false;
    range = {kUnbounded, 0};
    for (int v = 0; v < NR; ++v) bounds[v] = {0, kUnbounded, 0};
    for (int64_t i = 0; i < kWidth; ++i) {
      const Range seen = i < rows ? boundsOf(i) : Range{};
      lo[i] = static_cast<int32_t>(seen.begin);
      hi[i] = static_cast<int32_t>(seen.end);
      if (i >= rows) continue;
      Bounds& vector = bounds[i / kLanes];
      vector.fullBegin = std::max(vector.fullBegin, seen.begin);
      vector.fullEnd = std::min(vector.fullEnd, seen.end);
      if (seen.empty()) continue;
      vector.end = std::max(vector.end, seen.end);
      range.begin = std::min(range.begin, seen.begin);
      range.end = std::max(range.end, seen.end);
    }
    fullBegin = 0;
    fullEnd = kUnbounded;
    for (const Bounds& vector : bounds) {
      fullBegin = std::max(fullBegin, vector.fullBegin);
      fullEnd = std::min(fullEnd, vector.fullEnd);
    }
  }

  // How many vectors, from the first on, see no key from `key` on.
  LONGSPAN_INLINE int hidden(int64_t key) const {
    int count = 0;
    while (count < NR && key >= bounds[count].end) ++count;
    return count;
  }

  // Calls f with `first` as a constant from 0 to NR.
  template <int kFirst = 0, class F>
  LONGSPAN_INLINE static void withFirst(int first, F&& f) {
    if constexpr (kFirst < NR) {
      if (first != kFirst) return withFirst<kFirst + 1>(first, f);
    }
    f(std::integral_constant<int, kFirst>{});
  }

  LONGSPAN_INLINE bool meets(int64_t begin, int64_t count) const {
    return begin < range.end && begin + count > range.begin;
  }

  // p: scratch of kKeyTile rows of kWidth. ahead.fetch() is called once per kRows keys.
  template <class Score, class Ahead>
  void step(const Score& score, const KeyTile& tile, float* p, Ahead& ahead,
            const TermTiles& terms = {}) {
    if (!meets(tile.begin, tile.count)) return;
    const bool full =
        tile.begin >= fullBegin && tile.begin + tile.count <= fullEnd && tile.count % kRows == 0;
    if (full) {
      weights<false>(score, tile, p, ahead, terms);
      weigh<false>(tile, p);
    } else {
      weights<true>(score, tile, p, ahead, terms);
      weigh<kSkips>(tile, p);
    }
    opened = true;
  }

  // P^T. Exponentials are taken in registers, below the maximum of the tiles before: independent
  // of the products that follow, they hide behind these. Where that maximum turns out too low the
  // tile is done again.
  template <bool kMasked, class Score, class Ahead>
  LONGSPAN_INLINE void weights(const Score& score, const KeyTile& tile, float* p, Ahead& ahead,
                               const TermTiles& terms) {
    vf top[NR], total[NR];
    if (opened) {
      for (int v = 0; v < NR; ++v) total[v] = sum[v];
      scores<kMasked, true>(score, tile, p, ahead, terms, top, total);
      vi raise[NR];
      if (!raised(top, raise)) {
        for (int v = 0; v < NR; ++v) sum[v] = total[v];
        return;
      }
    }
    scores<kMasked, false>(score, tile, p, ahead, terms, top, total);
    vi raise[NR];
    raised(top, raise);
    softmax<Score::kPlain>(roundUp(tile.count, kRows), p, terms, top, raise);
  }

  // S^T minus the running maximum, or with kExponential P^T, whose rows are added to `total`; and
  // each lane's largest score. Of P^T, vectors that see none of a row's group are not written.
  template <bool kMasked, bool kExponential, class Score, class Ahead>
  LONGSPAN_INLINE void scores(const Score& score, const KeyTile& tile, float* p, Ahead& ahead,
                              const TermTiles& terms, vf (&top)[NR], vf (&total)[NR]) {
    const vf none = vbroadcast(-std::numeric_limits<float>::infinity());
    vf m[NR];
    for (int v = 0; v < NR; ++v) {
      top[v] = none;
      m[v] = maximum[v];
    }
    for (int64_t j = 0; j < tile.count; j += kRows) {
      ahead.fetch();
      const int64_t begin = tile.begin + j;
      const auto group = [&](auto first) __attribute__((always_inline)) {
        vf c[kRows][NR];
        tileClear(c);
        tileMultiply<kRows, NR, first>(dim, tile.k.data + j * tile.k.stride, 1, tile.k.stride, qt,
                                       kWidth, c);
#pragma GCC unroll 16
        for (int v = 0; v < NR; ++v) {
          float* at = p + j * kWidth + v * kLanes;
          if (v < first) {
            if constexpr (!kExponential) {
              for (int r = 0; r < kRows; ++r) vstore(at + r * kWidth, none);
            }
            continue;
          }
          const bool crossed =
              kMasked && !(begin >= bounds[v].fullBegin && begin + kRows <= bounds[v].fullEnd);
#pragma GCC unroll 16
          for (int r = 0; r < kRows; ++r) {
            const auto term = [&](TermTile t) {
              return vload(t.at + (j + r) * t.step + v * kLanes);
            };
            vf x;
            if constexpr (Score::kPlain) {
              x = score.below(c[r][v], m[v]);
            } else {
              x = score.below(c[r][v], term(terms.added), m[v]);
            }
            if (crossed) {
              const vi key = vbroadcast(static_cast<int32_t>(begin + r));
              x = vselect((key >= vload(lo + v * kLanes)) & (key < vload(hi + v * kLanes)), x,
                          none);
            }
            top[v] = vmax(top[v], x);
            if constexpr (kExponential) {
              x = vexp2Fast(x);
              total[v] += x;
              if constexpr (!Score::kPlain) x *= term(terms.kept);
            }
            vstore(at + r * kWidth, x);
          }
        }
      };
      if constexpr (kMasked && kSkips) {
        withFirst(hidden(begin), group);
      } else {
        group(std::integral_constant<int, 0>{});
      }
    }
  }

  // Lanes whose maximum must rise to their largest score.
  LONGSPAN_INLINE bool raised(const vf (&top)[NR], vi (&raise)[NR]) const {
    vi any = vi{};
    for (int v = 0; v < NR; ++v) {
      const vi first = (sum[v] == 0.0f) & (top[v] > -std::numeric_limits<float>::infinity());
      raise[v] = (top[v] > kSlack) | first;
      any |= raise[v];
    }
    return vany(any);
  }

  template <bool kPlain>
  LONGSPAN_INLINE void softmax(int64_t count, float* p, const TermTiles& terms, const vf (&top)[NR],
                               const vi (&raise)[NR]) {
    vf delta[NR], factor[NR], total[NR];
    vi rescale = vi{};
    for (int v = 0; v < NR; ++v) {
      delta[v] = vselect(raise[v], top[v], vf{});
      const vi old = raise[v] & (sum[v] != 0.0f);
      factor[v] = vselect(old, vexp2Fast(-delta[v]), vbroadcast(1.0f));
      maximum[v] += delta[v];
      total[v] = sum[v] * factor[v];
      rescale |= old;
    }
    if (vany(rescale)) {
      for (int64_t d = 0; d < valueDim; ++d) {
        for (int v = 0; v < NR; ++v) {
          float* o = ot + d * kWidth + v * kLanes;
          vstore(o, vload(o) * factor[v]);
        }
      }
    }
    for (int64_t j = 0; j < count; ++j) {
#pragma GCC unroll 16
      for (int v = 0; v < NR; ++v) {
        float* at = p + j * kWidth + v * kLanes;
        vf x = vexp2Fast(vload(at) - delta[v]);
        total[v] += x;
        if constexpr (!kPlain) x *= vload(terms.kept.at + j * terms.kept.step + v * kLanes);
        vstore(at, x);
      }
    }
    for (int v = 0; v < NR; ++v) sum[v] = total[v];
  }

  // O^T[d][query] += sum over keys of V[key][d] P^T[key][query]
  template <bool kSkipping>
  LONGSPAN_INLINE void weigh(const KeyTile& tile, const float* p) {
    int64_t stop[NR];  // the key from which on vectors up to this one are hidden
    for (int v = 0; kSkipping && v < NR; ++v) {
      const int64_t end = roundUp(std::max<int64_t>(bounds[v].end - tile.begin, 0), kRows);
      stop[v] = std::max(v == 0 ? 0 : stop[v - 1], std::min(end, tile.count));
    }
    for (int64_t d = 0; d < valueDim; d += kRows) {
      vf c[kRows][NR];
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < NR; ++v) c[r][v] = vload(ot + (d + r) * kWidth + v * kLanes);
      }
      if constexpr (kSkipping) {
        weighSeen(tile, d, p, stop, c);
      } else {
        tileMultiply<kRows, NR>(tile.count, tile.v.data + d, tile.v.stride, 1, p, kWidth, c);
      }
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < NR; ++v) vstore(ot + (d + r) * kWidth + v * kLanes, c[r][v]);
      }
    }
  }

  template <int kFirst = 0>
  LONGSPAN_INLINE static void weighSeen(const KeyTile& tile, int64_t d, const float* p,
                                        const int64_t (&stop)[NR], vf (&c)[kRows][NR],
                                        int64_t key = 0) {
    tileMultiply<kRows, NR, kFirst>(stop[kFirst] - key, tile.v.data + key * tile.v.stride + d,
                                    tile.v.stride, 1, p + key * kWidth, kWidth, c);
    if constexpr (kFirst + 1 < NR) weighSeen<kFirst + 1>(tile, d, p, stop, c, stop[kFirst]);
  }

  // The state that partial results over disjoint keys are merged from: maxima and sums,
  // [2][kWidth].
  void save(float* statistics) const {
    for (int v = 0; v < NR; ++v) {
      vstore(statistics + v * kLanes, maximum[v]);
      vstore(statistics + kWidth + v * kLanes, sum[v]);
    }
  }
  void restore(const float* statistics) {
    for (int v = 0; v < NR; ++v) {
      maximum[v] = vload(statistics + v * kLanes);
      sum[v] = vload(statistics + kWidth + v * kLanes);
    }
  }
  void absorb(const float* otherOt, const float* statistics) {
    vf mine[NR], theirs[NR];
    for (int v = 0; v < NR; ++v) {
      const vf m = vload(statistics + v * kLanes), total = vload(statistics + kWidth + v * kLanes);
      const vi empty = sum[v] == 0.0f, otherEmpty = total == 0.0f;
      // A side that saw no key has no maximum and weighs nothing.
      const vf top = vselect(empty, m, vselect(otherEmpty, maximum[v], vmax(maximum[v], m)));
      mine[v] = vselect(empty, vf{}, vexp2Fast(maximum[v] - top));
      theirs[v] = vselect(otherEmpty, vf{}, vexp2Fast(m - top));
      sum[v] = sum[v] * mine[v] + total * theirs[v];
      maximum[v] = top;
    }
    for (int64_t d = 0; d < valueDim; ++d) {
      for (int v = 0; v < NR; ++v) {
        const int64_t at = d * kWidth + v * kLanes;
        vstore(ot + at, vload(ot + at) * mine[v] + vload(otherOt + at) * theirs[v]);
      }
    }
  }

  // A logit per lane, base 2, that takes part in the sums and has no value; -inf for none.
  void sink(const float (&logits)[kWidth]) {
    const vf none = vbroadcast(-std::numeric_limits<float>::infinity());
    vf shrink[NR];
    for (int v = 0; v < NR; ++v) {
      const vf s = vload(logits + v * kLanes);
      const vi absent = s == none, empty = sum[v] == 0.0f;
      const vf top = vselect(absent, maximum[v], vselect(empty, s, vmax(maximum[v], s)));
      shrink[v] = vselect(empty & ~absent, vf{}, vexp2Fast(maximum[v] - top));
      sum[v] = sum[v] * shrink[v] + vselect(absent, vf{}, vexp2Fast(s - top));
      maximum[v] = top;
    }
    for (int64_t d = 0; d < valueDim; ++d) {
      for (int v = 0; v < NR; ++v) {
        float* o = ot + d * kWidth + v * kLanes;
        vstore(o, vload(o) * shrink[v]);
      }
    }
  }

  // Divides by the sums; lanes that saw no key become 0.
  void normalize() {
    vf inverse[NR];
    for (int v = 0; v < NR; ++v) inverse[v] = vselect(sum[v] == 0.0f, vf{}, 1.0f / sum[v]);
    for (int64_t d = 0; d < valueDim; ++d) {
      for (int v = 0; v < NR; ++v) {
        float* o = ot + d * kWidth + v * kLanes;
        vstore(o, vload(o) * inverse[v]);
      }
    }
  }

  // Natural log-sum-exp of each lane.
  void logSumExp(float (&lse)[kWidth]) const {
    for (int v = 0; v < NR; ++v) {
      vstore(lse + v * kLanes, maximum[v]);
      for (int i = 0; i < kLanes; ++i) {
        const float total = sum[v][i];
        float& x = lse[v * kLanes + i];
        x = total == 0.0f ? -std::numeric_limits<float>::infinity() : x * kLn2 + std::log(total);
      }
    }
  }
};

}  // namespace longspan::cpu::LONGSPAN_LEVEL
