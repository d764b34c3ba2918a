// The backward pass for f32 inputs, in f32 on the CUDA cores; see backward.cuh. Tiles of which a
// block mask shows nothing are not even loaded, except by queries of up to 64 dimensions.
#pragma once

#include "cuda/attention/backward.cuh"
#include "cuda/attention/tile32.cuh"

namespace longspan::cuda {

// kLean: fewer rows, for walks that need registers.
template <int kDim_, bool kKeySide_, bool kLean_ = false>
struct BackwardTile32 {
  static constexpr int kDim = kDim_;
  static constexpr bool kKeySide = kKeySide_;
  static constexpr int kRows = kDim == 64 && !kLean_ ? 64 : kDim <= 128 ? 32 : 16;
  static constexpr int kColumns = kDim <= 128 ? 32 : 16;
  static constexpr int kThreads = kRows / kThreadRows * 16;
  static constexpr int kBlocks = kDim == 64 ? 2 : 1;  // per multiprocessor, at least
  static constexpr int kStages = 1;
  // Past what a block mask hides; for the other no register is left on sm_80.
  static constexpr bool kSkips = kKeySide || kDim > 64;
  static constexpr int kSharedBytes =
      (2 * (kRows + kColumns) * kPitch<kDim> + 2 * kRows * kPitch<kColumns> + 2 * kColumns) * 4;
};

template <class Tile, class Walk>
__device__ __forceinline__ void backward32(const typename Walk::Arguments& a, uint8_t* shared) {
  constexpr int kDim = Tile::kDim, kRows = Tile::kRows, kColumns = Tile::kColumns,
                kThreads = Tile::kThreads, kEach = kColumns / 16;
  constexpr bool kKeySide = Walk::kKeySide;
  float* const first = reinterpret_cast<float*>(shared);  // X [kRows][kPitch<kDim>]
  float* const second = first + kRows * kPitch<kDim>;     // Y
  float* const x = second + kRows * kPitch<kDim>;         // [kColumns][kPitch<kDim>]
  float* const y = x + kColumns * kPitch<kDim>;
  float* const weights = y + kColumns * kPitch<kDim>;           // P [kRows][kPitch<kColumns>]
  float* const slopes = weights + kRows * kPitch<kColumns>;     // dS
  float* const statistics = slopes + kRows * kPitch<kColumns>;  // base, delta [kColumns]
  const Problem& p = a.problem;
  const int thread = threadIdx.x, tx = thread % 16, ty = thread / 16;
  const auto walk = Walk::template start<kRows, kColumns>(a, shared + Tile::kSharedBytes);
  if (walk.surplus) return;
  const int steps = walk.steps();
  const Range rows{walk.row, walk.row + kRows};
  // Past steps of whose tiles a block mask shows nothing.
  int step = 0;
  const auto pass = [&] {
    if constexpr (Tile::kSkips) {
      while (step < steps) {
        const int tile = walk.tile(step, kColumns);
        if (!walk.hidden(step, rows, {tile, tile + kColumns})) break;
        ++step;
      }
    }
  };
  pass();

  const auto load = [&] {
    const int tile = walk.tile(step, kColumns);
    loadTile32<kDim, kColumns, kThreads>(x, walk.template streamingFirst<float>(step), tile,
                                         walk.end, thread);
    loadTile32<kDim, kColumns, kThreads>(y, walk.template streamingSecond<float>(step), tile,
                                         kKeySide ? walk.gradient(walk.end) : walk.end, thread);
    walk.template loadStatistics<Tile>(statistics, step, thread);
    ptx::copyCommit();
  };

  float gradX[kThreadRows][kDim / 16] = {}, gradY[kThreadRows][kDim / 16] = {};
  float base[kThreadRows] = {}, delta[kThreadRows] = {};
  if (step < steps) {
    loadTile32<kDim, kRows, kThreads>(first, walk.template stayingFirst<float>(), walk.row,
                                      walk.stayingEnd(), thread);
    loadTile32<kDim, kRows, kThreads>(
        second, walk.template stayingSecond<float>(), walk.row,
        kKeySide ? walk.stayingEnd() : walk.gradient(walk.stayingEnd()), thread);
    load();
    if constexpr (!kKeySide) {
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
        walk.loadStatistics(walk.row + kThreadRows * ty + i, base[i], delta[i]);
      }
    }
  }
  while (step < steps) {
    if constexpr (!kPlanted<Planted::backwardFloatWait>) ptx::copyWait<0>();
    if constexpr (!kPlanted<Planted::backwardFloatBarrier>) __syncthreads();
    const int tile = walk.tile(step, kColumns);
    const bool masked = !walk.whole(rows, {tile, tile + kColumns});
    float s[kThreadRows][kEach] = {}, d[kThreadRows][kEach] = {};
    multiplyByRows32<kDim>(s, first, x, ty, tx);
    multiplyByRows32<kDim>(d, second, y, ty, tx);
    float slope[kThreadRows][kEach];
    uint32_t dropped[kEach] = {};  // a bit per row
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
      for (int j = 0; j < kEach; ++j) slope[i][j] = 1.0f;
    }
    if (!p.score.plain) {
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j) s[i][j] = p.score.prepare(s[i][j], slope[i][j]);
      }
      walk.template add<float, Tile::kStages>(step, [&](auto&& f) {
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
          for (int j = 0; j < kEach; ++j) {
            f(s[i][j], walk.row + kThreadRows * ty + i, tile + tx + 16 * j);
          }
        }
      });
      if constexpr (Walk::kDrops) {
        if (p.terms.drops()) {
#pragma unroll
          for (int j = 0; j < kEach; ++j) {
            dropped[j] = droppedPairs32<kKeySide>(p, walk.sequence, walk.queryHead(step),
                                                  walk.row + kThreadRows * ty, tile + tx + 16 * j);
          }
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      const int r = kThreadRows * ty + i;
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const int c = tx + 16 * j;
        float weight =
            ptx::exp2Approx(fmaf(s[i][j], p.score.factor, -(kKeySide ? statistics[c] : base[i])));
        if (masked && !walk.sees(walk.row + r, tile + c)) weight = 0;
        const float kept = (dropped[j] >> i & 1) != 0 ? 0.0f : p.terms.grown;
        weights[r * kPitch<kColumns> + c] = weight * kept;
        slopes[r * kPitch<kColumns> + c] =
            weight * slope[i][j] *
            (d[i][j] * kept - (kKeySide ? statistics[kColumns + c] : delta[i]));
      }
    }
    // A row of weights is written and read by one half of a warp.
    if constexpr (!kPlanted<Planted::backwardFloatWarp>) __syncwarp();
    multiplyByColumns32<kDim, kColumns>(gradX, slopes, x, ty, tx);
    if constexpr (kKeySide) multiplyByColumns32<kDim, kColumns>(gradY, weights, y, ty, tx);
    if constexpr (!kPlanted<Planted::backwardFloatFreeBarrier>) __syncthreads();
    ++step;
    pass();
    if (step < steps) load();
  }
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    const int row = walk.row + kThreadRows * ty + i;
    walk.template storeFirst32<kDim>(gradX[i], row, tx);
    if constexpr (kKeySide) walk.template storeSecond32<kDim>(gradY[i], row, tx);
  }
}

template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    attentionBackward32(BackwardArguments a) {
  LONGSPAN_SHARED(shared);
  backward32<Tile, BackwardWalk<Tile::kKeySide, Mask>>(a, shared);
}

}  // namespace longspan::cuda
