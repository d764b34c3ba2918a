// The backward pass for 16-bit inputs on tensor cores; see backward.cuh. A warp owns 16 of the rows
// that stay; P and dS are operands of the second products where they were computed, in registers.
#pragma once

#include "cuda/attention/backward.cuh"
#include "cuda/attention/warp_attention.cuh"

namespace longspan::cuda {

// kFirst: dK or dQ; kSecond: dV. At 256 dimensions the accumulators of both do not fit at once.
// kLean: half the pairs at a time and rows in shared memory, for walks that need registers.
template <class T_, int kDim_, bool kKeySide_, bool kFirst_, bool kSecond_, bool kLean_ = false>
struct BackwardTile {
  using T = T_;
  static constexpr int kDim = kDim_;
  static constexpr bool kKeySide = kKeySide_, kFirst = kFirst_, kSecond = kSecond_;
  static constexpr int kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kBlocks = kDim == 128 && !kKeySide ? 3 : 2;  // per multiprocessor
  static constexpr int kRows = 16 * kWarps;
  static constexpr int kColumns = (kDim == 64 ? 64 : 32) / (kLean_ ? 2 : 1);
  static constexpr int kStages = kDim <= 128 ? 2 : 1;
  using Staying =
      std::conditional_t<kDim == 64 && !kLean_, HeldRows<T, kDim, 1>, SharedRows<T, kDim, 1>>;
  static constexpr int kStageBytes =
      2 * kColumns * (kDim * static_cast<int>(sizeof(T)) + static_cast<int>(sizeof(float)));
  static constexpr int kStayingBytes = 2 * kRows * kDim * static_cast<int>(sizeof(T));
  static constexpr int kSharedBytes = kStayingBytes + kStages * kStageBytes;
};

template <class Tile, class Walk>
__device__ __forceinline__ void backward16(const typename Walk::Arguments& a, uint8_t* shared) {
  using T = typename Tile::T;
  constexpr int kDim = Tile::kDim, kRows = Tile::kRows, kColumns = Tile::kColumns,
                kThreads = Tile::kThreads;
  constexpr bool kKeySide = Walk::kKeySide;
  T* const first = reinterpret_cast<T*>(shared);  // X [kRows][kDim]
  T* const second = first + kRows * kDim;         // Y [kRows][kDim]
  const Problem& p = a.problem;
  const int thread = threadIdx.x, warp = thread / 32, lane = thread % 32;
  const auto walk = Walk::template start<kRows, kColumns>(a, shared + Tile::kSharedBytes);
  if (walk.surplus) return;
  const int steps = walk.steps();

  // Stages: x [kColumns][kDim], y the same, then base and delta [kColumns] of streaming queries.
  const auto stageOf = [&](int step) {
    return reinterpret_cast<T*>(shared + Tile::kStayingBytes +
                                step % Tile::kStages * Tile::kStageBytes);
  };
  const auto load = [&](int step) {
    T* x = stageOf(step);
    const int tile = walk.tile(step, kColumns);
    loadTile<kDim, kColumns, kThreads>(x, walk.template streamingFirst<T>(step), tile, walk.end,
                                       thread);
    loadTile<kDim, kColumns, kThreads>(x + kColumns * kDim, walk.template streamingSecond<T>(step),
                                       tile, kKeySide ? walk.gradient(walk.end) : walk.end, thread);
    walk.template loadStatistics<Tile>(reinterpret_cast<float*>(x + 2 * kColumns * kDim), step,
                                       thread);
    ptx::copyCommit();
  };

  typename Tile::Staying rowsX, rowsY;
  Products<1, Tile::kFirst ? kDim : 8> gradX;
  Products<1, Tile::kSecond ? kDim : 8> gradY;
  gradX.clear();
  gradY.clear();
  const Range mine{walk.row + warp * 16, walk.row + warp * 16 + 16};
  float base[2] = {}, delta[2] = {};
  if (steps > 0) {
    loadTile<kDim, kRows, kThreads>(first, walk.template stayingFirst<T>(), walk.row,
                                    walk.stayingEnd(), thread);
    loadTile<kDim, kRows, kThreads>(second, walk.template stayingSecond<T>(), walk.row,
                                    kKeySide ? walk.stayingEnd() : walk.gradient(walk.stayingEnd()),
                                    thread);
    load(0);
    if constexpr (!kPlanted<Planted::backwardFirstWait>) ptx::copyWait<0>();
    if constexpr (!kPlanted<Planted::backwardFirstBarrier>) __syncthreads();
    rowsX.load(first, warp * 16);
    rowsY.load(second, warp * 16);
    if constexpr (!kKeySide) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        walk.loadStatistics(mine.begin + lane / 4 + 8 * h, base[h], delta[h]);
      }
    }
  }
  for (int step = 0; step < steps; ++step) {
    if constexpr (!kPlanted<Planted::backwardWait>) ptx::copyWait<0>();
    // The stage has come, and all warps are done with the one before.
    if constexpr (!kPlanted<Planted::backwardBarrier>) __syncthreads();
    if (Tile::kStages == 2 && step + 1 < steps) load(step + 1);
    const T* x = stageOf(step);
    const T* y = x + kColumns * kDim;
    const float* statistics = reinterpret_cast<const float*>(y + kColumns * kDim);
    const int tile = walk.tile(step, kColumns);
    const Range now{tile, tile + kColumns};
    if (walk.meet(mine, now) && !walk.hidden(step, mine, now)) {
      Products<1, kColumns> s;
      s.clear();
      multiplyByRows<kDim>(s, rowsX, x, 0);
      const bool masked = !walk.whole(mine, now);
      Weights<1, kColumns> weights;
      // Scores become P times their slope, and P goes into `weights`.
      const auto weigh = [&](auto&& slopeOf) {
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            float weight[2];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              const int r = lane / 4 + 8 * h, c = n * 8 + lane % 4 * 2 + i;
              float& score = s.at[0][n][2 * h + i];
              weight[i] = ptx::exp2Approx(
                  fmaf(score, p.score.factor, -(kKeySide ? statistics[c] : base[h])));
              if (masked && !walk.sees(mine.begin + r, tile + c)) weight[i] = 0;
              score = weight[i] * slopeOf(n, 2 * h + i);
            }
            weights.a[0][n / 2][n % 2 * 2 + h] = pack<T>(weight[0], weight[1]);
          }
        }
      };
      uint32_t dropped = 0;  // four bits per group of columns
      if (p.score.plain) {
        weigh([](int, int) { return 1.0f; });
      } else {
        Products<1, kColumns> slopes;
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            s.at[0][n][i] = p.score.prepare(s.at[0][n][i], slopes.at[0][n][i]);
          }
        }
        walk.template add<T, Tile::kStages>(step, [&](auto&& f) {
#pragma unroll
          for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              f(s.at[0][n][i], mine.begin + lane / 4 + 8 * (i / 2),
                tile + n * 8 + lane % 4 * 2 + i % 2);
            }
          }
        });
        weigh([&](int n, int i) { return slopes.at[0][n][i]; });
        if constexpr (Walk::kDrops) {
          if (p.terms.drops()) {
            weights.drop([&](int, int n) {
              const uint32_t bits = droppedPairs<kKeySide>(p, walk.sequence, walk.queryHead(step),
                                                           mine.begin, tile + 8 * n);
              dropped |= bits << 4 * n;
              return bits;
            });
          }
        }
      }
      if constexpr (Tile::kSecond) multiplyByColumns<kDim>(gradY, weights, y, 0);
      if constexpr (Tile::kFirst) {
        Products<1, kColumns> d;
        d.clear();
        multiplyByRows<kDim>(d, rowsY, y, 0);
        if (Walk::kDrops && p.terms.drops()) {
#pragma unroll
          for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              d.at[0][n][i] *= (dropped >> (4 * n + i) & 1) != 0 ? 0.0f : p.terms.grown;
            }
          }
        }
#pragma unroll
        for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int c = n * 8 + lane % 4 * 2 + i % 2;
            d.at[0][n][i] = s.at[0][n][i] *
                            (d.at[0][n][i] - (kKeySide ? statistics[kColumns + c] : delta[i / 2]));
          }
        }
        weights.template set<T>(d);
        multiplyByColumns<kDim>(gradX, weights, x, 0);
      }
    }
    if constexpr (Tile::kStages == 1) {
      if constexpr (!kPlanted<Planted::backwardFreeBarrier>) __syncthreads();
      if (step + 1 < steps) load(step + 1);
    }
  }

  // Staged over the rows that only this warp has read.
  __syncwarp();
  if constexpr (Tile::kFirst) {
    walk.template storeFirst<kDim, !kPlanted<Planted::backwardStaging>>(
        gradX.at[0], first + warp * 16 * kDim, mine.begin);
  }
  if constexpr (Tile::kSecond) {
    walk.template storeSecond<kDim>(gradY.at[0], second + warp * 16 * kDim, mine.begin);
  }
}

template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    attentionBackward16(BackwardArguments a) {
#if !LONGSPAN_SM90A_ALONE  // there backward90.cuh takes its place
  LONGSPAN_SHARED(shared);
  backward16<Tile, BackwardWalk<Tile::kKeySide, Mask>>(a, shared);
#endif
}

}  // namespace longspan::cuda
