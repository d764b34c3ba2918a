// Exact attention forward for f32 inputs, in f32 throughout: the walk of forward16.cuh with
// products on the CUDA cores.
#pragma once

#include "cuda/attention/forward16.cuh"
#include "cuda/attention/tile32.cuh"

namespace longspan::cuda {

// kLean: fewer keys at 256 dimensions, for walks with tables beside the tiles (sm_86: 99 KiB).
template <int kDim_, bool kLean_ = false>
struct ForwardTile32 {
  static constexpr int kDim = kDim_;
  static constexpr int kRows = kDim <= 128 ? 64 : 32;
  static constexpr int kKeys = kDim <= 64 ? 64 : kDim <= 128 || !kLean_ ? 32 : 16;
  static constexpr int kThreads = kRows / kThreadRows * 16;
  // Weights pass through shared memory unless the tiles leave no room for them (sm_86: 99 KiB).
  static constexpr bool kSharesWeights = kDim <= 128;
  static constexpr int kSharedBytes =
      ((kRows + 2 * kKeys) * kPitch<kDim> + (kSharesWeights ? kRows * kPitch<kKeys> : 0)) * 4;
};

template <class Tile, class Walk>
__device__ __forceinline__ void forward32(const typename Walk::Arguments& a, uint8_t* shared) {
  constexpr int kDim = Tile::kDim, kRows = Tile::kRows, kKeys = Tile::kKeys,
                kThreads = Tile::kThreads, kColumns = kKeys / 16;
  float* const queries = reinterpret_cast<float*>(shared);     // [kRows][kPitch<kDim>]
  float* const keyTile = queries + kRows * kPitch<kDim>;       // [kKeys][kPitch<kDim>]
  float* const valueTile = keyTile + kKeys * kPitch<kDim>;     // [kKeys][kPitch<kDim>]
  float* const weightTile = valueTile + kKeys * kPitch<kDim>;  // [kRows][kPitch<kKeys>]
  const Problem& p = a.problem;
  const int thread = threadIdx.x, x = thread % 16, y = thread / 16;
  const auto walk = Walk::template start<kRows, kKeys>(a, shared + Tile::kSharedBytes);
  if (walk.surplus()) return;
  const auto k = walk.template keyRows<float>();
  const auto v = walk.template valueRows<float>();
  const Range keys = walk.template keys<kKeys>();
  const int row = walk.row;
  const auto visible = [&](int tile) { return walk.template visible<kKeys>(tile, keys.end); };
  const int begin = visible(keys.begin);

  float o[kThreadRows][kDim / 16] = {};
  RowState state[kThreadRows];
  if (begin < keys.end) {
    loadTile32<kDim, kRows, kThreads>(queries, walk.template queryRows<float>(), row,
                                      walk.queryEnd(), thread);
    loadTile32<kDim, kKeys, kThreads>(keyTile, k, begin, keys.end, thread);
    walk.template loadQueries<kRows, kThreads>(thread);
    walk.template loadKeys<kKeys, kThreads>(begin, keys.end, thread);
    ptx::copyCommit();
  }
  for (int tile = begin; tile < keys.end;) {
    if constexpr (!kPlanted<Planted::floatKeyWait>) ptx::copyWait<0>();
    // The keys have come, and all threads are done with the values before.
    if constexpr (!kPlanted<Planted::floatKeyBarrier>) __syncthreads();
    loadTile32<kDim, kKeys, kThreads>(valueTile, v, tile, keys.end, thread);
    ptx::copyCommit();

    float s[kThreadRows][kColumns] = {};
    multiplyByRows32<kDim>(s, queries, keyTile, y, x);
    if (!p.score.plain) {
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
        for (int j = 0; j < kColumns; ++j) s[i][j] = p.score.prepare(s[i][j]);
      }
      walk.template add<float, true>(tile, [&](auto&& f) {
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
          for (int j = 0; j < kColumns; ++j) {
            f(s[i][j], row + kThreadRows * y + i, tile + x + 16 * j);
          }
        }
      });
    }
    const bool masked = !walk.whole({row, row + kRows}, {tile, tile + kKeys});
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      const Range seen = masked ? walk.seenBy(row + kThreadRows * y + i, tile) : Range{0, kKeys};
      float top = kNegativeInfinity;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        if (x + 16 * j < seen.begin || x + 16 * j >= seen.end) s[i][j] = kNegativeInfinity;
        top = fmaxf(top, s[i][j]);
      }
      const float shrink = state[i].raise(lanesMax<16>(top) * p.score.factor);
      if (shrink != 1.0f) {
#pragma unroll
        for (int c = 0; c < kDim / 16; ++c) o[i][c] *= shrink;
      }
      const float base = state[i].base();
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        s[i][j] = ptx::exp2Approx(fmaf(s[i][j], p.score.factor, -base));
        state[i].sum += s[i][j];
      }
    }
    if constexpr (Walk::kDrops) {
      if (p.terms.drops()) {
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
          const uint32_t dropped = droppedPairs32<false>(p, walk.place.sequence, walk.place.h,
                                                         row + kThreadRows * y, tile + x + 16 * j);
#pragma unroll
          for (int i = 0; i < kThreadRows; ++i) {
            if ((dropped >> i & 1) != 0) s[i][j] = 0;
          }
        }
      }
    }
    if constexpr (Tile::kSharesWeights) {
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
          weightTile[(kThreadRows * y + i) * kPitch<kKeys> + x + 16 * j] = s[i][j];
        }
      }
    }
    if constexpr (!kPlanted<Planted::floatValueWait>) ptx::copyWait<0>();
    // The values and weights have come, and all threads are done with the keys.
    if constexpr (!kPlanted<Planted::floatValueBarrier>) __syncthreads();
    tile = visible(tile + kKeys);
    if (tile < keys.end) {
      loadTile32<kDim, kKeys, kThreads>(keyTile, k, tile, keys.end, thread);
      walk.template loadKeys<kKeys, kThreads>(tile, keys.end, thread);
      ptx::copyCommit();
    }
    if constexpr (Tile::kSharesWeights) {
      multiplyByColumns32<kDim, kKeys>(o, weightTile, valueTile, y, x);
    } else {
      multiplyByHeldWeights32<kDim>(o, s, valueTile, x);
    }
  }

#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    state[i].sum = lanesSum<16>(state[i].sum);
    walk.template finish32<kDim>(state[i], o[i], row + kThreadRows * y + i, x);
  }
}

template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, 1) attentionForward32(ForwardArguments a) {
  LONGSPAN_SHARED(shared);
  forward32<Tile, ForwardWalk<Mask>>(a, shared);
}

}  // namespace longspan::cuda
