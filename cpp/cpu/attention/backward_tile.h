// The five products of the backward pass for one block of keys and one panel of queries:
//
//   P^T  = exp2(K Q^T - lse)             exponential taken in registers
//   dS^T = P^T o (Z^T o V dO^T - delta)  Z: what dropout keeps, and scales; else all 1, and
//                                        accumulators start at -delta
//   dQ^T += K^T dS^T                     lanes are queries
//   dV   += (P o Z)^T dO,  dK += dS^T Q  lanes are head dimensions
//
// Q^T and dO^T are the only transposes, made once per head.
#pragma once

#include "cpp/cpu/attention/head_rows.h"
#include "cpp/cpu/attention/score.h"
#include "cpp/cpu/attention/terms.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

inline constexpr int kPanelVectors = kTileVectors;
inline constexpr int64_t kPanelWidth = kPanelVectors * kLanes;
// Keys per block and panels that share the accumulation of dK and dV.
inline constexpr int64_t kKeyBlock = 128;
inline constexpr int64_t kPanelsPerGroup = 2;

// A panel of queries, prepared once per head.
struct QueryPanel {
  int64_t rows = 0;
  float* qt = nullptr;     // [D][kPanelWidth]
  float* gt = nullptr;     // dO^T [Dv][kPanelWidth]
  float* delta = nullptr;  // [kPanelWidth] sum of dO o O, minus the gradient of the log-sum-exp
  float* lse = nullptr;    // [kPanelWidth] base 2; huge where nothing is to be seen
  float* dqt = nullptr;    // [D padded to kTileRows][kPanelWidth], one range's share of dQ^T
  HeadRows q{}, g{};       // rows of Q and dO
};

// Intervals of keys seen by the lanes of a panel; null when every lane sees the whole block.
struct LaneBounds {
  int32_t lo[kPanelWidth], hi[kPanelWidth];
};

// Tiles may leave out the last vectors of a panel: NR are computed.
template <bool kMasked, int NR = kPanelVectors, class Score>
LONGSPAN_INLINE void weightTile(const Score& score, HeadRows k, int64_t dim, int64_t firstKey,
                                int64_t keys, const QueryPanel& panel, const LaneBounds& bounds,
                                TermTile added, float* p, float* slope) {
  vf lse[NR];
  for (int v = 0; v < NR; ++v) lse[v] = vload(panel.lse + v * kLanes);
  for (int64_t j = 0; j < keys; j += kTileRows) {
    vf c[kTileRows][NR];
    tileClear(c);
    tileMultiply<kTileRows, NR>(dim, k.data + j * k.stride, 1, k.stride, panel.qt, kPanelWidth, c);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      const vi key = vbroadcast(static_cast<int32_t>(firstKey + j + r));
#pragma GCC unroll 16
      for (int v = 0; v < NR; ++v) {
        const int64_t at = (j + r) * kPanelWidth + v * kLanes;
        vf x;
        if constexpr (Score::kPlain) {
          x = score.below(c[r][v], lse[v]);
        } else {
          vf derivative;
          x = score.below(c[r][v], vload(added.at + (j + r) * added.step + v * kLanes), lse[v],
                          derivative);
          vstore(slope + at, derivative);
        }
        x = vexp2Fast(x);
        if constexpr (kMasked) {
          const vi seen =
              (key >= vload(bounds.lo + v * kLanes)) & (key < vload(bounds.hi + v * kLanes));
          x = vselect(seen, x, vf{});
        }
        vstore(p + at, x);
      }
    }
  }
}

// Of scores that are not plain, ds holds the slopes beforehand, and P becomes P o Z.
template <class Score, int NR = kPanelVectors>
LONGSPAN_INLINE void gradientTile(HeadRows v, int64_t valueDim, int64_t keys,
                                  const QueryPanel& panel, TermTile kept, float* p, float* ds) {
  vf delta[NR];
  for (int n = 0; n < NR; ++n) delta[n] = vload(panel.delta + n * kLanes);
  for (int64_t j = 0; j < keys; j += kTileRows) {
    vf c[kTileRows][NR];
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 16
      for (int n = 0; n < NR; ++n) c[r][n] = Score::kPlain ? -delta[n] : vf{};
    }
    tileMultiply<kTileRows, NR>(valueDim, v.data + j * v.stride, 1, v.stride, panel.gt, kPanelWidth,
                                c);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 16
      for (int n = 0; n < NR; ++n) {
        const int64_t at = (j + r) * kPanelWidth + n * kLanes;
        const vf weight = vload(p + at);
        if constexpr (Score::kPlain) {
          vstore(ds + at, c[r][n] * weight);
        } else {
          const vf z = vload(kept.at + (j + r) * kept.step + n * kLanes);
          vstore(ds + at, (c[r][n] * z - delta[n]) * weight * vload(ds + at));
          vstore(p + at, weight * z);
        }
      }
    }
  }
}

// dQ^T[d][query] += sum over keys of K[key][d] dS^T[key][query]; K's rows are padded to kTileRows.
template <int NR = kPanelVectors>
LONGSPAN_INLINE void addQueryGradient(HeadRows k, int64_t dim, int64_t keys, const float* ds,
                                      float* dqt) {
  for (int64_t d = 0; d < dim; d += kTileRows) {
    vf c[kTileRows][NR];
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < NR; ++v) c[r][v] = vload(dqt + (d + r) * kPanelWidth + v * kLanes);
    }
    tileMultiply<kTileRows, NR>(keys, k.data + d, k.stride, 1, ds, kPanelWidth, c);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < NR; ++v) vstore(dqt + (d + r) * kPanelWidth + v * kLanes, c[r][v]);
    }
  }
}

// One column block of NR vectors of acc[key][d] += sum over queries of weight^T[key][query]
// x[query][d], over the panels of a group.
template <int NR>
LONGSPAN_INLINE void addKeyColumns(int64_t keys, int64_t panels, const float* const* weight,
                                   const HeadRows* x, const int64_t* rows, int64_t d, float* acc,
                                   int64_t width) {
  for (int64_t j = 0; j < keys; j += kTileRows) {
    vf c[kTileRows][NR];
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < NR; ++v) c[r][v] = vload(acc + (j + r) * width + d + v * kLanes);
    }
    for (int64_t i = 0; i < panels; ++i) {
      tileMultiply<kTileRows, NR>(rows[i], weight[i] + j * kPanelWidth, 1, kPanelWidth,
                                  x[i].data + d, x[i].stride, c);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 16
      for (int v = 0; v < NR; ++v) vstore(acc + (j + r) * width + d + v * kLanes, c[r][v]);
    }
  }
}

// acc has rows of `width` floats, a multiple of kLanes, and so have the rows x.
inline void addKeyGradient(int64_t keys, int64_t panels, const float* const* weight,
                           const HeadRows* x, const int64_t* rows, float* acc, int64_t width) {
  int64_t d = 0;
  for (; d + kPanelWidth <= width; d += kPanelWidth) {
    addKeyColumns<kPanelVectors>(keys, panels, weight, x, rows, d, acc, width);
  }
  switch ((width - d) / kLanes) {
    case 3:
      addKeyColumns<3>(keys, panels, weight, x, rows, d, acc, width);
      break;
    case 2:
      addKeyColumns<2>(keys, panels, weight, x, rows, d, acc, width);
      break;
    case 1:
      addKeyColumns<1>(keys, panels, weight, x, rows, d, acc, width);
      break;
    default:
      break;
  }
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
