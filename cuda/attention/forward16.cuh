// Exact attention forward for 16-bit inputs, sm_80 and later: a block takes kRows queries of one
// head and walks over the tiles of keys that any of them sees; a warp owns 16 kRowTiles of the
// queries. One tile of K and one of V are in shared memory: V arrives by cp.async while scores are
// computed, the next K while values are summed. 64 KiB or less, so that two blocks share a
// multiprocessor of sm_80.
#pragma once

#include "cuda/attention/warp_attention.cuh"

namespace longspan::cuda {

struct ForwardArguments {
  Problem problem;
  Operand o;
  float* lse;  // [B, Hq, N] or null
};

template <class T_, int kDim_>
struct ForwardTile {
  using T = T_;
  static constexpr int kDim = kDim_;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kRowTiles = kDim <= 128 ? 2 : 1;
  static constexpr int kRows = 16 * kRowTiles * kWarps;
  static constexpr int kKeys = kDim <= 128 ? 64 : 32;
  using Queries =
      std::conditional_t<kDim == 64, HeldRows<T, kDim, kRowTiles>, SharedRows<T, kDim, kRowTiles>>;
  static constexpr int kSharedBytes = (kRows + 2 * kKeys) * kDim * static_cast<int>(sizeof(T));
};

// Grid: tiles of queries, the longest first, then heads, then batch entries.
template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, 2) attentionForward16(ForwardArguments a) {
  using T = typename Tile::T;
  constexpr int kDim = Tile::kDim, kRows = Tile::kRows, kKeys = Tile::kKeys,
                kThreads = Tile::kThreads, kRowTiles = Tile::kRowTiles;
  LONGSPAN_SHARED(shared);
  T* const queries = reinterpret_cast<T*>(shared);  // [kRows][kDim]
  T* const keyTile = queries + kRows * kDim;        // [kKeys][kDim]
  T* const valueTile = keyTile + kKeys * kDim;      // [kKeys][kDim]
  const Problem& p = a.problem;
  const int thread = threadIdx.x, warp = thread / 32;
  const int count = (p.queries + kRows - 1) / kRows;
  const int row = (count - 1 - static_cast<int>(blockIdx.x % count)) * kRows;
  const int h = blockIdx.x / count % p.queryHeads, b = blockIdx.x / count / p.queryHeads;

  const Mask mask = p.band(b);
  const Rows<T> k = rowsOf<T>(p.k, b, h / p.group(), p.dim);
  const Rows<T> v = rowsOf<T>(p.v, b, h / p.group(), p.valueDim);
  const Range keys = mask.keysOf(row, row + kRows);
  const int warpRow = row + warp * 16 * kRowTiles, warpEnd = warpRow + 16 * kRowTiles;
  const Range warpKeys = mask.keysOf(warpRow, warpEnd);

  WarpAttention<T, kDim, kRowTiles, typename Tile::Queries> warpState;
  warpState.clear();
  const int begin = keys.begin / kKeys * kKeys;
  if (!keys.empty()) {
    loadTile<kDim, kRows, kThreads>(queries, rowsOf<T>(p.q, b, h, p.dim), row, mask.queries,
                                    thread);
    loadTile<kDim, kKeys, kThreads>(keyTile, k, begin, keys.end, thread);
    ptx::copyCommit();
    if constexpr (!kPlanted<Planted::forwardQueryWait>) ptx::copyWait<0>();
    if constexpr (!kPlanted<Planted::forwardQueryBarrier>) __syncthreads();
    warpState.q.load(queries, warp * 16 * kRowTiles);
  }
  for (int tile = begin; tile < keys.end; tile += kKeys) {
    if constexpr (!kPlanted<Planted::forwardKeyWait>) ptx::copyWait<0>();
    // The keys have come, and all warps are done with the values before.
    if constexpr (!kPlanted<Planted::forwardKeyBarrier>) __syncthreads();
    loadTile<kDim, kKeys, kThreads>(valueTile, v, tile, keys.end, thread);
    ptx::copyCommit();
    const Range now{tile, tile + kKeys};
    const bool seen = now.begin < warpKeys.end && now.end > warpKeys.begin;
    Weights<kRowTiles, kKeys> weights;
    if (seen) {
      warpState.weigh(
          p.score, keyTile, 0, !mask.whole(warpRow, warpEnd, now),
          [&](int r) { return mask.from(tile).keysOf(warpRow + r, warpRow + r + 1); }, weights);
    }
    if constexpr (!kPlanted<Planted::forwardValueWait>) ptx::copyWait<0>();
    // The values have come, and all warps are done with the keys.
    if constexpr (!kPlanted<Planted::forwardValueBarrier>) __syncthreads();
    if (tile + kKeys < keys.end) {
      loadTile<kDim, kKeys, kThreads>(keyTile, k, tile + kKeys, keys.end, thread);
      ptx::copyCommit();
    }
    if (seen) multiplyByColumns<kDim>(warpState.o, weights, valueTile, 0);
  }
  warpState.finish();

  const Rows<T> o = rowsOf<T>(a.o, b, h, p.valueDim);
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    const RowState(&state)[2] = warpState.state[m];
    const float inverse[2] = {state[0].inverse(), state[1].inverse()};
    // Staged over the warp's own queries.
    storeRows<kDim, !kPlanted<Planted::forwardStaging>>(
        warpState.o.at[m], inverse, queries + (warp * kRowTiles + m) * 16 * kDim, o,
        warpRow + m * 16, p.queries);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int at = warpRow + warpState.rowOf(m, i);
      if (a.lse != nullptr && thread % 4 == 0 && at < p.queries) {
        a.lse[(int64_t{b} * p.queryHeads + h) * p.queries + at] = state[i].logSumExp();
      }
    }
  }
}

}  // namespace longspan::cuda
