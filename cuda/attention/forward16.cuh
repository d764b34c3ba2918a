// Exact attention forward for 16-bit inputs, sm_80 and later: a block takes kRows queries of one
// head and walks over the tiles of keys that any of them sees; a warp owns 16 kRowTiles of the
// queries. One tile of K and one of V are in shared memory: V arrives by cp.async while scores are
// computed, the next K while values are summed. 64 KiB or less, so that two blocks share a
// multiprocessor of sm_80.
#pragma once

#include "cuda/attention/forward.cuh"

namespace longspan::cuda {

// Up to 128 dimensions the code of pairs.cuh would not fit into the registers of the common case:
// calls with terms have a smaller tile of their own. Beyond, there is no other.
template <class T_, int kDim_, bool kTerms_>
struct ForwardTile {
  using T = T_;
  static constexpr int kDim = kDim_;
  static constexpr bool kTerms = kTerms_;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kRowTiles = kTerms ? 1 : 2;
  static constexpr int kRows = 16 * kRowTiles * kWarps;
  static constexpr int kKeys = kDim <= 128 ? 64 : 32;
  using Queries = std::conditional_t<kDim == 64 && !kLeanCode, HeldRows<T, kDim, kRowTiles>,
                                     SharedRows<T, kDim, kRowTiles>>;
  static constexpr int kSharedBytes = (kRows + 2 * kKeys) * kDim * static_cast<int>(sizeof(T));
};

template <class Tile, class Walk>
__device__ __forceinline__ void forward16(const typename Walk::Arguments& a, uint8_t* shared) {
  using T = typename Tile::T;
  constexpr int kDim = Tile::kDim, kRows = Tile::kRows, kKeys = Tile::kKeys,
                kThreads = Tile::kThreads, kRowTiles = Tile::kRowTiles;
  T* const queries = reinterpret_cast<T*>(shared);  // [kRows][kDim]
  T* const keyTile = queries + kRows * kDim;        // [kKeys][kDim]
  T* const valueTile = keyTile + kKeys * kDim;      // [kKeys][kDim]
  const Problem& p = a.problem;
  const int thread = threadIdx.x, warp = thread / 32;
  const auto walk = Walk::template start<kRows, kKeys>(a, shared + Tile::kSharedBytes);
  if (walk.surplus()) return;
  const auto k = walk.template keyRows<T>();
  const auto v = walk.template valueRows<T>();
  const Range keys = walk.template keys<kKeys>();
  const int row = walk.row, warpRow = row + warp * 16 * kRowTiles;
  const Range warpRows{warpRow, warpRow + 16 * kRowTiles};

  WarpAttention<T, kDim, kRowTiles, typename Tile::Queries> warpState;
  warpState.clear();
  const auto visible = [&](int tile) {
    if constexpr (Tile::kTerms && kDim <= 128) return walk.template visible<kKeys>(tile, keys.end);
    return tile;
  };
  const int begin = visible(keys.begin);
  if (begin < keys.end) {
    loadTile<kDim, kRows, kThreads>(queries, walk.template queryRows<T>(), row, walk.queryEnd(),
                                    thread);
    loadTile<kDim, kKeys, kThreads>(keyTile, k, begin, keys.end, thread);
    walk.template loadQueries<kRows, kThreads>(thread);
    walk.template loadKeys<kKeys, kThreads>(begin, keys.end, thread);
    ptx::copyCommit();
    if constexpr (!kPlanted<Planted::forwardQueryWait>) ptx::copyWait<0>();
    if constexpr (!kPlanted<Planted::forwardQueryBarrier>) __syncthreads();
    warpState.q.load(queries, warp * 16 * kRowTiles);
  }
  for (int tile = begin; tile < keys.end;) {
    if constexpr (!kPlanted<Planted::forwardKeyWait>) ptx::copyWait<0>();
    // The keys have come, and all warps are done with the values before.
    if constexpr (!kPlanted<Planted::forwardKeyBarrier>) __syncthreads();
    loadTile<kDim, kKeys, kThreads>(valueTile, v, tile, keys.end, thread);
    ptx::copyCommit();
    const Range now{tile, tile + kKeys};
    const bool seen = walk.meets(warpRows, now);
    Weights<kRowTiles, kKeys> weights;
    if (seen) {
      warpState.weigh(
          p.score, keyTile, 0, !walk.whole(warpRows, now),
          [&](int r) { return walk.seenBy(warpRow + r, tile); },
          [&](auto&& forEach) {
            if constexpr (Tile::kTerms)
              walk.template add<T, kDim <= 128>(tile, [&](auto&& f) {
                forEach([&](float& score, int r, int c) { f(score, warpRow + r, tile + c); });
              });
          },
          weights);
      if constexpr (Tile::kTerms && Walk::kDrops) {
        if (p.terms.drops()) {
          weights.drop([&](int m, int n) {
            return droppedPairs<false>(p, walk.place.sequence, walk.place.h, warpRow + 16 * m,
                                       tile + 8 * n);
          });
        }
      }
    }
    if constexpr (!kPlanted<Planted::forwardValueWait>) ptx::copyWait<0>();
    // The values have come, and all warps are done with the keys.
    if constexpr (!kPlanted<Planted::forwardValueBarrier>) __syncthreads();
    tile = visible(tile + kKeys);
    if (tile < keys.end) {
      loadTile<kDim, kKeys, kThreads>(keyTile, k, tile, keys.end, thread);
      walk.template loadKeys<kKeys, kThreads>(tile, keys.end, thread);
      ptx::copyCommit();
    }
    if (seen) multiplyByColumns<kDim>(warpState.o, weights, valueTile, 0);
  }
  // Staged over the warp's own queries.
  walk.template finish<!kPlanted<Planted::forwardStaging>>(warpState, warpRow,
                                                           queries + warp * kRowTiles * 16 * kDim);
}

// On sm_90a forward90.cuh takes the place of both kernels.
template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, 2) attentionForward16(ForwardArguments a) {
#if !LONGSPAN_SM90A_ALONE
  LONGSPAN_SHARED(shared);
  forward16<Tile, ForwardWalk<Mask>>(a, shared);
#endif
}

// Calls with terms are rare: both types share a kernel, where registers allow.
template <int kDim, class Mask>
__global__ void __launch_bounds__(ForwardTile<f16, kDim, true>::kThreads, 2)
    attentionForward16Terms(ForwardArguments a, bool isBf16) {
#if !LONGSPAN_SM90A_ALONE
  LONGSPAN_SHARED(shared);
  if (isBf16) {
    forward16<ForwardTile<bf16, kDim, true>, ForwardWalk<Mask>>(a, shared);
  } else {
    forward16<ForwardTile<f16, kDim, true>, ForwardWalk<Mask>>(a, shared);
  }
#endif
}

}  // namespace longspan::cuda
