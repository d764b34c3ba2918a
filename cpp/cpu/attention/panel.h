// A panel of queries and its online softmax.
//
// Vector lanes are queries: scores are computed as S^T [key][query], so that maximum, exponential,
// sum and rescaling are all vertical and only Q is transposed. Keys and values are read row-major
// as broadcast operands.
//
// Online softmax (Milakov and Gimelshein 2018; tiled as in FlashAttention, Dao et al. 2022) in base
// 2. A lane's maximum begins at 0 and is raised only when a score exceeds it by more than kSlack,
// or lowered when all of its first tile lie as far below: O and the sum are rarely rescaled. The
// decision is taken lane by lane, so a query's result never depends on the others of its panel.
//
// A tile that a mask crosses, as on the diagonal of a causal mask, costs what is visible: vectors
// of queries that see none of a few keys are left out of both products, and lanes are compared with
// their bounds only where these fall.
#pragma once

#include <cmath>
#include <limits>
#include <type_traits>

#include "cpp/cpu/attention/head_rows.h"
#include "cpp/cpu/attention/rows_ahead.h"
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

// NR vectors of queries.
template <int NR>
struct Panel {
  static constexpr int kWidth = NR * kLanes;
  // Rows per register tile: enough accumulators to hide the latency of FMA.
  static constexpr int kRows = NR == 1 || (NR == 2 && kManyRegisters) ? 2 * kTileRows : kTileRows;
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
    transposeRows(q.data, q.stride, rows, dim, qt, kWidth, kWidth);
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

  LONGSPAN_INLINE bool meets(int64_t begin, int64_t count) const {
    return begin < range.end && begin + count > range.begin;
  }

  // Takes a tile of keys. p: scratch of kKeyTile rows of kWidth; ahead.fetch() is called once per
  // kRows keys. panel.simd.cc has the widths and scores there are.
  template <class Score>
  void step(const Score& score, const KeyTile& tile, float* p, RowsAhead& ahead,
            const TermTiles& terms = {});

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
