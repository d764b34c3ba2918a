// Panels of queries as both backward passes prepare them, and the gradients of their scores.
#pragma once

#include "cpp/cpu/attention/backward_tile.h"
#include "cpp/cpu/attention/gradient_rows.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

inline constexpr float kNothing = 1e30f;  // stands for the log-sum-exp of a lane without keys

// Whether rows of Q and dO must be copied before tiles can use them, and their padded widths.
struct PanelLayout {
  int64_t dim, valueDim, dimLanes, valueLanes, dimRows;  // dimRows: padded to kTileRows
  bool packsQ, packsG;

  explicit PanelLayout(const ops::AttentionGradientProblem& p)
      : dim(p.dim()),
        valueDim(p.valueDim()),
        dimLanes(roundUp(dim, kLanes)),
        valueLanes(roundUp(valueDim, kLanes)),
        dimRows(roundUp(dim, kTileRows)),
        packsQ(!direct(p, p.q)),
        packsG(!p.gradO.defined() || !direct(p, p.gradO)) {}

  // Floats of a prepared panel with `shares` of dQ^T.
  int64_t floats(int64_t shares) const {
    return roundUp((dim + valueDim + 2 + shares * dimRows) * kPanelWidth +
                       (packsQ ? kPanelWidth * dimLanes : 0) +
                       (packsG ? kPanelWidth * valueLanes : 0),
                   16);
  }
  // Panel of queries [row, row + rows) of query head h in memory of that size; dqt is that of
  // `share`.
  QueryPanel panel(const GradientRows& s, int64_t h, int64_t row, float* memory, int64_t shares,
                   int64_t share) const {
    QueryPanel panel;
    panel.rows = std::clamp<int64_t>(s.band.queries - row, 0, kPanelWidth);
    const auto take = [&](int64_t floats) {
      float* piece = memory;
      memory += floats;
      return piece;
    };
    panel.qt = take(dim * kPanelWidth);
    panel.gt = take(valueDim * kPanelWidth);
    panel.delta = take(kPanelWidth);
    panel.lse = take(kPanelWidth);
    panel.dqt = take(shares * dimRows * kPanelWidth) + share * dimRows * kPanelWidth;
    panel.q = packsQ ? HeadRows{take(kPanelWidth * dimLanes), dimLanes}
                     : HeadRows{f32Row(s.q, 0, h, row), dim};
    panel.g = packsG ? HeadRows{take(kPanelWidth * valueLanes), valueLanes}
                     : HeadRows{f32Row(s.gradO, 0, h, row), valueDim};
    return panel;
  }

 private:
  static bool direct(const ops::AttentionGradientProblem& p, const TensorView& t) {
    const TensorView view = p.headMajor(t);
    return hasF32Rows(view) && view.stride[2] == view.shape[3] && view.shape[3] % kLanes == 0;
  }
};

// Q^T, dO^T, delta = sum(dO o O) - dLse and the log-sum-exp. scratch: kPanelWidth rows of
// valueLanes.
inline void preparePanel(const GradientRows& s, const PanelLayout& layout, int64_t h, int64_t row,
                         const QueryPanel& panel, float* scratch) {
  if (panel.rows == 0) return;
  if (layout.packsQ) {
    packRows(s.q, 0, h, row, panel.rows, const_cast<float*>(panel.q.data), layout.dimLanes,
             panel.rows);
  }
  const auto transpose = [&](HeadRows x, int64_t dim, float* target) {
    transposeRows(x.data, x.stride, panel.rows, dim, target, kPanelWidth, kPanelWidth);
  };
  transpose(panel.q, layout.dim, panel.qt);

  std::fill(panel.delta, panel.delta + kPanelWidth, 0.0f);
  std::fill(panel.lse, panel.lse + kPanelWidth, kNothing);
  if (s.gradO.defined()) {
    if (layout.packsG) {
      packRows(s.gradO, 0, h, row, panel.rows, const_cast<float*>(panel.g.data), layout.valueLanes,
               panel.rows);
    }
    transpose(panel.g, layout.valueDim, panel.gt);
    packRows(s.o, 0, h, row, panel.rows, scratch, layout.valueLanes, panel.rows);
    for (int64_t r = 0; r < panel.rows; ++r) {
      const float *x = panel.g.data + r * panel.g.stride, *y = scratch + r * layout.valueLanes;
      vf sum{};
      for (int64_t d = 0; d < layout.valueLanes; d += kLanes)
        sum = vfma(vload(x + d), vload(y + d), sum);
      panel.delta[r] = vsum(sum);
    }
  } else {
    std::fill(panel.gt, panel.gt + layout.valueDim * kPanelWidth, 0.0f);
    std::fill_n(const_cast<float*>(panel.g.data), kPanelWidth * layout.valueLanes, 0.0f);
  }
  for (int64_t r = 0; r < panel.rows; ++r) {
    const float lse = s.statistic<float>(s.p.lse, h, row + r);
    panel.lse[r] = lse == -std::numeric_limits<float>::infinity()
                       ? kNothing
                       : lse * static_cast<float>(kLog2E);
    if (s.p.gradLse.defined()) panel.delta[r] -= s.statistic<float>(s.p.gradLse, h, row + r);
  }
}

// A block of keys.
struct KeyBlock {
  int64_t begin, count, padded;
  HeadRows k, v;
};

// Keys [begin, begin + count) of key head g; k: dimRows wide, v: valueDim wide.
inline KeyBlock keyBlock(const GradientRows& s, const PanelLayout& layout, int64_t g, int64_t begin,
                         int64_t count, float* k, float* v) {
  const int64_t padded = roundUp(count, kTileRows);
  return {begin, count, padded, denseRows(s.k, 0, g, begin, count, k, layout.dimRows, padded),
          denseRows(s.v, 0, g, begin, count, v, layout.valueDim, padded)};
}

// P, times what dropout keeps, and dS of a panel and a block of keys, [key][lane]; false and
// neither of them where no pair is to be seen. `pairs` has the block's keys; scratch: that of
// Terms.
template <class Score>
bool scoreGradients(const Score& score, const Terms& terms, const PanelLayout& layout,
                    const Pairs& pairs, const KeyBlock& keys, const QueryPanel& panel, float* p,
                    float* ds, float* scratch) {
  const Band& band = *pairs.band;
  TermTiles tiles;
  if constexpr (!Score::kPlain) {
    const Terms::Seen seen = terms.seen(pairs);
    if (seen.none) return false;
    tiles = terms.tiles(pairs, seen, kPanelWidth, scratch);
  }
  int32_t lo[kPanelWidth], hi[kPanelWidth];
  LaneBounds bounds;
  const int64_t row = pairs.row, last = row + panel.rows - 1;
  if (band.first(last) > keys.begin || band.end(row) < keys.begin + keys.padded) {
    for (int64_t i = 0; i < kPanelWidth; ++i) {
      lo[i] = i < panel.rows ? static_cast<int32_t>(band.first(row + i)) : 0;
      hi[i] = i < panel.rows ? static_cast<int32_t>(band.end(row + i)) : 0;
    }
    bounds = {lo, hi};
  }
  const auto gradients = [&](const auto& policy) {
    RowsAhead none;
    weightGradients(policy, keys.k, keys.v, layout.dim, layout.valueDim, keys.begin, keys.padded,
                    panel, bounds, tiles, p, ds, none);
  };
  if constexpr (!Score::kPlain) {
    if (tiles.none() && !score.capped) {
      gradients(score.plain());
      return true;
    }
  }
  gradients(score);
  return true;
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
