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
#include "cpp/cpu/attention/rows_ahead.h"
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

// Intervals of keys seen by the lanes of a panel, [kPanelWidth]; null where every lane sees every
// key.
struct LaneBounds {
  const int32_t *lo = nullptr, *hi = nullptr;
};

// P^T, times what dropout keeps, and dS^T of `keys` keys, a multiple of kTileRows. Panels whose
// last vectors are empty compute NR of them. ahead.fetch() is called twice per kTileRows keys.
// backward_tile.simd.cc has the scores and widths there are.
template <class Score, int NR = kPanelVectors>
void weightGradients(const Score& score, HeadRows k, HeadRows v, int64_t dim, int64_t valueDim,
                     int64_t firstKey, int64_t keys, const QueryPanel& panel, LaneBounds bounds,
                     const TermTiles& terms, float* p, float* ds, RowsAhead& ahead);

// dQ^T[d][query] += sum over keys of K[key][d] dS^T[key][query]; K's rows are padded to kTileRows.
template <int NR = kPanelVectors>
void addQueryGradient(HeadRows k, int64_t dim, int64_t keys, const float* ds, float* dqt);

// acc[key][d] += sum over queries of weight^T[key][query] x[query][d], over the panels of a group.
// acc has rows of `width` floats, a multiple of kLanes, and so have the rows x.
void addKeyGradient(int64_t keys, int64_t panels, const float* const* weight, const HeadRows* x,
                    const int64_t* rows, float* acc, int64_t width);

}  // namespace longspan::cpu::LONGSPAN_LEVEL
