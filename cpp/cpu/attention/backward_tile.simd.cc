// The five products of the backward pass (backward_tile.h), compiled once for every kernel that
// takes gradients of attention.
#include "cpp/cpu/attention/backward_tile.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

template <bool kMasked, int NR, class Score>
LONGSPAN_INLINE void weightTile(const Score& score, HeadRows k, int64_t dim, int64_t firstKey,
                                int64_t keys, const QueryPanel& panel, LaneBounds bounds,
                                TermTile added, float* p, float* slopes, RowsAhead& ahead) {
  vf lse[NR];
  for (int v = 0; v < NR; ++v) lse[v] = vload(panel.lse + v * kLanes);
  for (int64_t j = 0; j < keys; j += kTileRows) {
    ahead.fetch();
    vf c[kTileRows][NR];
    tileClear(c);
    tileMultiply<kTileRows, NR>(dim, k.data + j * k.stride, 1, k.stride, panel.qt, kPanelWidth, c);
    if constexpr (!Score::kPlain) score.cap(c);
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
          const vf term = vload(added.at + (j + r) * added.step + v * kLanes);
          x = score.below(c[r][v], term, lse[v]);
          vstore(slopes + at, score.slope(c[r][v], term));
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
template <class Score, int NR>
LONGSPAN_INLINE void gradientTile(HeadRows v, int64_t valueDim, int64_t keys,
                                  const QueryPanel& panel, TermTile kept, float* p, float* ds,
                                  RowsAhead& ahead) {
  vf delta[NR];
  for (int n = 0; n < NR; ++n) delta[n] = vload(panel.delta + n * kLanes);
  for (int64_t j = 0; j < keys; j += kTileRows) {
    ahead.fetch();
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

}  // namespace

template <class Score, int NR>
void weightGradients(const Score& score, HeadRows k, HeadRows v, int64_t dim, int64_t valueDim,
                     int64_t firstKey, int64_t keys, const QueryPanel& panel, LaneBounds bounds,
                     const TermTiles& terms, float* p, float* ds, RowsAhead& ahead) {
  if (bounds.lo == nullptr) {
    weightTile<false, NR>(score, k, dim, firstKey, keys, panel, bounds, terms.added, p, ds, ahead);
  } else {
    weightTile<true, NR>(score, k, dim, firstKey, keys, panel, bounds, terms.added, p, ds, ahead);
  }
  gradientTile<Score, NR>(v, valueDim, keys, panel, terms.kept, p, ds, ahead);
}

template <int NR>
void addQueryGradient(HeadRows k, int64_t dim, int64_t keys, const float* ds, float* dqt) {
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

void addKeyGradient(int64_t keys, int64_t panels, const float* const* weight, const HeadRows* x,
                    const int64_t* rows, float* acc, int64_t width) {
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

#define LONGSPAN_WEIGHT_GRADIENTS(score, vectors)                                              \
  template void weightGradients<score, vectors>(                                               \
      const score&, HeadRows, HeadRows, int64_t, int64_t, int64_t, int64_t, const QueryPanel&, \
      LaneBounds, const TermTiles&, float*, float*, RowsAhead&)
#define LONGSPAN_QUERY_GRADIENT(vectors) \
  template void addQueryGradient<vectors>(HeadRows, int64_t, int64_t, const float*, float*)

LONGSPAN_WEIGHT_GRADIENTS(ScaledScore, kPanelVectors);
LONGSPAN_WEIGHT_GRADIENTS(GeneralScore, kPanelVectors);
LONGSPAN_QUERY_GRADIENT(kPanelVectors);
// Panels that are partly filled, of the sparse family.
#if LONGSPAN_TILE_VECTORS > 2
LONGSPAN_WEIGHT_GRADIENTS(GeneralScore, 2);
LONGSPAN_QUERY_GRADIENT(2);
#endif
#if LONGSPAN_TILE_VECTORS > 3
LONGSPAN_WEIGHT_GRADIENTS(GeneralScore, 3);
LONGSPAN_QUERY_GRADIENT(3);
#endif

}  // namespace longspan::cpu::LONGSPAN_LEVEL
