// The backward pass for 16-bit inputs on the tensor cores of sm_90a; see backward.cuh.
//
// Algorithm: a block keeps 128 rows of X and Y in shared memory. One warpgroup keeps a ring of
// tiles of x and y filled by bulk copies (TMA) and brings the statistics of queries that stream;
// two others own 64 of the rows each. Scores are X x^T, on the side of keys the transposed ones, so
// that P and dS come out in the registers that are operand A of the products they go into and never
// lie in memory (Shah et al. 2024, "FlashAttention-3"). The products for dP run while weights are
// computed, those for dV while dS is; the two warpgroups depend on each other for the ring alone,
// so that one multiplies while the other computes exponentials.
//
// Why not five products: the sums for dQ of all blocks of keys, added in bulk where they meet,
// would have to take turns to be deterministic. Peers lose a fifth by that (575 to 474 TFLOP/s at
// 128 dimensions), two sides cost two sevenths at the same rate and no memory, and no block waits
// for another.
//
// Cost per visible pair: backward.cuh's seven products (eight at 256 dimensions, where scores are
// computed for dK and for dV) and two exponentials. Bytes from L2 per tile that streams by: 4 D per
// row and 128 rows that stay, 1.5 TB/s at the rates below.
//
// Prediction for an H200, from clocks of a multiprocessor per pair at 1.7 GHz: wgmma of 64 x N x 16
// takes N / 2, with both operands in shared memory at least (64 + N) / 4 to read them. 128
// dimensions: 0.27 + 0.19 for the two sides, 0.61 with a quarter of the time lost to waits and
// exponentials, whose 0.13 run beside; a tenth of each block goes into its start and end: 400
// TFLOP/s of 2.5 times the forward's FLOPs. 64 dimensions: 0.13 + 0.09, against 0.13 for
// exponentials: 330. 256 dimensions: 0.41 + 0.25 + 0.41: 340. Causal at 8192 tokens 0.85 of these.
// With terms, in tiles of half the width or of 16, 0.4. Measured there with the forward pass
// (bench/results/nvidia-h200.json): 337 TFLOP/s (D 64), 435 (D 128), causal 315 and 410; 0.75 to
// 0.87 of cuDNN. The kernel that serves both 16-bit types at 256 dimensions has not yet run there.
#pragma once

#include "cuda/attention/backward.cuh"
#include "cuda/attention/hopper.cuh"

namespace longspan::cuda {

// kFirst: dK or dQ; kSecond: dV. At 256 dimensions the accumulators of both do not fit at once.
template <class T_, int kDim_, bool kKeySide_, bool kFirst_, bool kSecond_>
struct BackwardTile90 {
  using T = T_;
  template <class U>
  using With = BackwardTile90<U, kDim_, kKeySide_, kFirst_, kSecond_>;
  static constexpr int kDim = kDim_;
  static constexpr bool kKeySide = kKeySide_, kFirst = kFirst_, kSecond = kSecond_;
  // Above 128 dimensions that of queries; that of keys would spill.
  static constexpr bool kSharesTypes = kDim > 128 && !kKeySide;
  static constexpr int kGroups = 2, kThreads = 128 * (1 + kGroups), kConsumers = 128 * kGroups;
  static constexpr int kRows = 64 * kGroups;
  // As many as registers and, at 256 dimensions, two stages in shared memory allow.
  static constexpr int kColumns = kDim == 64    ? (kKeySide ? 96 : 128)
                                  : kDim == 128 ? (kKeySide ? 48 : 128)
                                  : kFirst      ? 48
                                                : 64;
  static constexpr int kStages = kDim == 64 || (kDim == 128 && kKeySide) ? 3 : 2;
  // Calls with terms take that many columns at a time, since terms need registers, and keep slopes
  // of these.
  static constexpr int kPart = kColumns % 32 == 0 ? kColumns / 2 : 16;
  static constexpr int kTurn = kPart % 32 == 0 ? 32 : 16;
  static constexpr int kGroupBytes = 64 * kDim * 2;  // X, or Y, of a warpgroup
  static constexpr int kStayingBytes = (kFirst ? 2 : 1) * kGroups * kGroupBytes;
  static constexpr int kTileBytes = kColumns * kDim * 2;
  static constexpr int kStatistics = kKeySide ? 2 * kColumns : 0;  // floats of a stage
  static constexpr int kRing = kStayingBytes + kStages * 2 * kTileBytes;
  static constexpr int kBarriers = kRing + kStages * kStatistics * 4;
  static constexpr int kHeld = kBarriers + (1 + 2 * kStages) * 8;
  static constexpr int kHeldBytes = 80;
  static constexpr int kSharedBytes = kHeld + kHeldBytes;
  static_assert(kSharedBytes <= 227 * 1024 && kTileBytes % 1024 == 0);
  static_assert(kPart % kTurn == 0 && kColumns % kPart == 0);
};

struct Backward90 {
  TensorMap stayingX, stayingY, streamingX, streamingY;
  BackwardArguments arguments;
};

// Shared memory of a block.
template <class Tile, class Mask>
struct BackwardStages {
  using Walk = BackwardWalk<Tile::kKeySide, Mask>;
  struct Held {
    Sequence sequence;
    Mask mask;
    int row, b, h, begin, end, tiles, heads;
    bool surplus;
  };
  uint8_t* const data;

  // What the block does, found by one warp and looked up wherever it is needed: registers are
  // short.
  static_assert(sizeof(Held) <= Tile::kHeldBytes);
  __device__ __forceinline__ Held& held() const {
    return *reinterpret_cast<Held*>(data + Tile::kHeld);
  }
  __device__ __forceinline__ void find(const BackwardArguments& a) const {
    const Walk w = Walk::template start<Tile::kRows, Tile::kColumns>(a);
    if (threadIdx.x != 0) return;
    held() = {w.sequence, w.mask, w.row, w.b, w.h, w.begin, w.end, w.tiles, w.heads, w.surplus};
  }
  __device__ __forceinline__ Walk walk(const BackwardArguments& a) const {
    const Held& x = held();
    return {a, x.sequence, x.mask, x.row, x.b, x.h, x.begin, x.end, x.tiles, x.heads, x.surplus};
  }
  __device__ __forceinline__ uint8_t* first(int group) const {
    return data + group * Tile::kGroupBytes;
  }
  __device__ __forceinline__ uint8_t* second(int group) const {
    return first(Tile::kGroups + group);
  }
  __device__ __forceinline__ uint8_t* x(int stage) const {
    return data + Tile::kStayingBytes + stage * 2 * Tile::kTileBytes;
  }
  __device__ __forceinline__ uint8_t* y(int stage) const { return x(stage) + Tile::kTileBytes; }
  // Base and delta of the queries that stream.
  __device__ __forceinline__ float* statistics(int stage) const {
    return reinterpret_cast<float*>(data + Tile::kRing) + stage * Tile::kStatistics;
  }
  __device__ __forceinline__ uint64_t* staying() const {
    return reinterpret_cast<uint64_t*>(data + Tile::kBarriers);
  }
  __device__ __forceinline__ uint64_t* full(int stage) const { return staying() + 1 + stage; }
  __device__ __forceinline__ uint64_t* empty(int stage) const {
    return staying() + 1 + Tile::kStages + stage;
  }
  __device__ __forceinline__ void initialise() const {
    ptx::mbarrierInit(staying(), 1);
    for (int i = 0; i < Tile::kStages; ++i) {
      ptx::mbarrierInit(full(i), 4);  // warps that bring statistics
      ptx::mbarrierInit(empty(i), Tile::kGroups * 4);
    }
    ptx::fenceMbarrierInit();
  }
};

// What the first warpgroup does: thread 0 copies tiles, all of them statistics.
template <class Tile, class Mask>
__device__ __forceinline__ void produceBackward(const Backward90& w,
                                                const BackwardStages<Tile, Mask>& stages) {
  constexpr int kDim = Tile::kDim, kColumns = Tile::kColumns;
  const BackwardArguments& a = w.arguments;
  const auto walk = stages.walk(a);
  const Problem& p = a.problem;
  const int thread = threadIdx.x;
  const bool leads = thread == 0;
  const int key = p.keyBegin(walk.sequence), query = p.queryBegin(walk.sequence);
  // Beyond the last entry there are zeros: an absent gradient.
  const int gradientOf = a.hasGradO ? walk.b : p.batch;
  const Range rows{walk.row, walk.row + Tile::kRows};
  const auto load = [&](uint8_t* tile, const TensorMap& map, uint64_t* barrier, int row, int h,
                        int b, auto count) {
    bulkLoadTile<kDim, decltype(count)::value>(reinterpret_cast<typename Tile::T*>(tile), map,
                                               barrier, row, h, b);
  };
  if (leads) {
    const std::integral_constant<int, 64> count;
    const int h = Tile::kKeySide ? walk.keyHead() : walk.h;
    const int row = walk.row + (Tile::kKeySide ? key : query);
    ptx::mbarrierArriveExpect(stages.staying(), Tile::kStayingBytes);
    for (int g = 0; g < Tile::kGroups; ++g) {
      load(stages.first(g), w.stayingX, stages.staying(), row + 64 * g, h, walk.b, count);
      if constexpr (Tile::kFirst) {
        load(stages.second(g), w.stayingY, stages.staying(), row + 64 * g, h,
             Tile::kKeySide ? walk.b : gradientOf, count);
      }
    }
  }
  RingPlace<Tile::kStages> stage;
  int step = 0;
  for (int head = 0; head < walk.heads; ++head) {
    const int queryHead = walk.queryHead(head * walk.tiles);
    const int64_t from = walk.statistics(queryHead);
    for (int i = 0; i < walk.tiles; ++i, ++step) {
      const int tile = walk.begin + i * kColumns;
      if (walk.hidden(step, rows, {tile, tile + kColumns})) continue;
      constexpr int kEach = (Tile::kStatistics + 127) / 128;
      float statistics[kEach == 0 ? 1 : kEach];
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const int at = thread + 128 * j, i = tile + at % kColumns;
        const float* source = at < kColumns ? a.base : a.delta;
        statistics[j] = i < walk.mask.queries ? source[from + i] : 0.0f;
      }
      if constexpr (!kPlanted<Planted::hopperBackwardEmpty>) {
        ptx::mbarrierWait(stages.empty(stage.index), stage.parity ^ 1);
      }
      uint64_t* const full = stages.full(stage.index);
      if (leads) {
        const std::integral_constant<int, kColumns> count;
        ptx::mbarrierExpect(full, 2 * Tile::kTileBytes);
        const int h = Tile::kKeySide ? queryHead : walk.keyHead();
        const int row = tile + (Tile::kKeySide ? query : key);
        load(stages.x(stage.index), w.streamingX, full, row, h, walk.b, count);
        load(stages.y(stage.index), w.streamingY, full, row, h,
             Tile::kKeySide ? gradientOf : walk.b, count);
      }
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const int at = thread + 128 * j;
        if (at < Tile::kStatistics) stages.statistics(stage.index)[at] = statistics[j];
      }
      if constexpr (!kPlanted<Planted::hopperBackwardStatistics>) __syncwarp();
      if (thread % 32 == 0) ptx::mbarrierArrive(full);
      stage.advance();
    }
  }
}

// What the other warpgroups do.
template <class Tile, bool kPlain, class Mask>
__device__ __forceinline__ void consumeBackward(const BackwardArguments& a,
                                                const BackwardStages<Tile, Mask>& stages,
                                                int group) {
  using T = typename Tile::T;
  constexpr int kDim = Tile::kDim, kColumns = Tile::kColumns;
  constexpr int kPart = kPlain ? kColumns : Tile::kPart;
  constexpr bool kKeySide = Tile::kKeySide, kFirst = Tile::kFirst, kSecond = Tile::kSecond;
  constexpr bool kEarly = kPlain && kFirst && !(kKeySide && kDim == 256);
  const Problem& p = a.problem;
  const int thread = static_cast<int>(threadIdx.x) - 128;
  const int lane = thread % 32;
  const int own = thread / 32 % 4 * 16;  // the warp's rows, within its warpgroup's
  // The thread's first row, within the block's, and first column.
  const int ownRow = group * 64 + own + lane / 4, column = lane % 4 * 2;
  const T* const rowsX = reinterpret_cast<const T*>(stages.first(group));
  const T* const rowsY = reinterpret_cast<const T*>(stages.second(group));
  const auto meet = [] { ptx::barrierSync(1, Tile::kConsumers); };

  Products<1, kFirst ? kDim : 8> gradX;
  Products<1, kSecond ? kDim : 8> gradY;
  gradX.clear();
  gradY.clear();
  float base[2] = {}, delta[2] = {};
  if constexpr (!kKeySide) {
    const auto walk = stages.walk(a);
    const int row = walk.row + ownRow;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (row + 8 * h >= walk.mask.queries) continue;
      base[h] = a.base[walk.statistics(walk.h) + row + 8 * h];
      delta[h] = a.delta[walk.statistics(walk.h) + row + 8 * h];
    }
  }
  // Copies bring rows beyond the last one that counts, which may hold anything: zeros instead.
  const auto clear = [&](uint8_t* x, uint8_t* y, auto rows, int from) {
    clearRows<kDim, decltype(rows)::value, Tile::kConsumers>(reinterpret_cast<T*>(x), from, thread);
    if (y != nullptr)
      clearRows<kDim, decltype(rows)::value, Tile::kConsumers>(reinterpret_cast<T*>(y), from,
                                                               thread);
  };
  const auto cleared = [&] {
    if constexpr (!kPlanted<Planted::hopperBackwardClearFence>) ptx::fenceProxyAsync();
    if constexpr (!kPlanted<Planted::hopperBackwardClearBarrier>) meet();
  };
  if constexpr (!kPlanted<Planted::hopperBackwardStaying>) ptx::mbarrierWait(stages.staying(), 0);
  if (const auto walk = stages.walk(a); walk.overrun(kKeySide)) {
    const int left = walk.stayingEnd() - walk.row;
    if (left < Tile::kRows) {
      for (int g = 0; g < Tile::kGroups; ++g) {
        clear(stages.first(g), kFirst ? stages.second(g) : nullptr,
              std::integral_constant<int, 64>{}, clampTo(left - 64 * g, 0, 64));
      }
      cleared();
    }
  }

  RingPlace<Tile::kStages> stage;
  for (int step = 0, ahead = 0; step < stages.held().tiles * stages.held().heads; ++step) {
    const auto walk = stages.walk(a);
    const int tile = walk.begin + ahead;
    ahead = tile + kColumns < walk.end ? ahead + kColumns : 0;
    if (!kPlain && walk.hidden(step, {walk.row, walk.row + Tile::kRows}, {tile, tile + kColumns})) {
      continue;
    }
    ptx::mbarrierWait(stages.full(stage.index),
                      kPlanted<Planted::hopperBackwardParity> ? 0 : stage.parity);
    uint8_t *const x = stages.x(stage.index), *const y = stages.y(stage.index);
    const int left = walk.streamingEnd() - tile;
    if (left < kColumns && walk.overrun(!kKeySide)) {
      clear(x, y, std::integral_constant<int, kColumns>{}, max(left, 0));
      cleared();
    }
#pragma unroll 1
    for (int part = 0; part < kColumns; part += kPart) {
      const auto walk = stages.walk(a);
      const Range mine{walk.row + group * 64, walk.row + group * 64 + 64};
      const Range now{tile + part, tile + part + kPart};
      const int row = walk.row + ownRow;
      const bool idle = !walk.meet(mine, now) || (!kPlain && walk.hidden(step, mine, now));
      if (idle) continue;
      const T* const tileX = reinterpret_cast<const T*>(x) + part * kPanel;
      const T* const tileY = reinterpret_cast<const T*>(y) + part * kPanel;
      const float* const statistics = stages.statistics(stage.index) + part + column;
      Products<1, kPart> s, d;
      issueByRows<kDim, 64, kColumns>(s, rowsX, tileX);
      if constexpr (kEarly) issueByRows<kDim, 64, kColumns>(d, rowsY, tileY);
      const bool masked = !walk.whole(mine, now);
      Range seen[2];  // columns, of the thread's rows
      if (masked) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const Range range = walk.seenBy(row + 8 * h);
          seen[h] = {range.begin - now.begin - column, range.end - now.begin - column};
        }
      }
      Weights<1, kPart> weights;
      // Scores become P times their slope, and P goes into `weights`.
      const auto weigh = [&](int n, int h, const float(&slopes)[2]) {
        float weight[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int c = n * 8 + i;
          float& score = s.at[0][n][2 * h + i];
          weight[i] =
              ptx::exp2Approx(fmaf(score, p.score.factor, -(kKeySide ? statistics[c] : base[h])));
          if (masked && (c < seen[h].begin || c >= seen[h].end)) weight[i] = 0;
          score = weight[i] * slopes[i];
        }
        weights.a[0][n / 2][n % 2 * 2 + h] = pack<T>(weight[0], weight[1]);
      };
      uint32_t dropped[(kPart + 63) / 64] = {};  // four bits per group of columns
      ptx::wgmmaWait<kEarly ? 1 : 0>(flat(s));
      if constexpr (kPlain) {
        const float slopes[2] = {1.0f, 1.0f};
#pragma unroll
        for (int n = 0; n < kPart / 8; ++n) {
#pragma unroll
          for (int h = 0; h < 2; ++h) weigh(n, h, slopes);
        }
      } else {
        constexpr int kTurn = Tile::kTurn / 8;
#pragma unroll
        for (int first = 0; first < kPart / 8; first += kTurn) {
          float slopes[kTurn][4];
#pragma unroll
          for (int n = 0; n < kTurn; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              float& score = s.at[0][first + n][i];
              score = p.score.prepare(score, slopes[n][i]);
            }
          }
          walk.template add<T>(step, [&](auto&& f) {
#pragma unroll
            for (int n = first; n < first + kTurn; ++n) {
#pragma unroll
              for (int i = 0; i < 4; ++i) {
                f(s.at[0][n][i], row + 8 * (i / 2), now.begin + n * 8 + column + i % 2);
              }
            }
          });
#pragma unroll
          for (int n = 0; n < kTurn; ++n) {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
              const float own[2] = {slopes[n][2 * h], slopes[n][2 * h + 1]};
              weigh(first + n, h, own);
            }
          }
        }
        if (p.terms.drops()) {
          weights.drop([&](int, int n) {
            const uint32_t bits =
                droppedPairs<kKeySide>(p, walk.sequence, walk.queryHead(step),
                                       walk.row + ownRow - lane / 4, now.begin + 8 * n);
            dropped[n / 8] |= bits << n % 8 * 4;
            return bits;
          });
        }
      }
      if constexpr (kSecond) issueByColumns<kDim, kColumns>(gradY, weights, tileY);
      if constexpr (kFirst) {
        if constexpr (kEarly) {
          ptx::wgmmaWait<kSecond ? 1 : 0>(flat(d));
        } else {
          issueByRows<kDim, 64, kColumns>(d, rowsY, tileY);
          ptx::wgmmaWait<0>(flat(d), flat(gradY));
        }
        Weights<1, kPart> slopes;  // dS; the products for dV still read the other registers
#pragma unroll
        for (int n = 0; n < kPart / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            float& x = d.at[0][n][i];
            if constexpr (!kPlain) {
              if (p.terms.drops()) {
                x *= (dropped[n / 8] >> (n % 8 * 4 + i) & 1) != 0 ? 0.0f : p.terms.grown;
              }
            }
            x = s.at[0][n][i] *
                (x - (kKeySide ? statistics[kColumns + n * 8 + i % 2] : delta[i / 2]));
          }
        }
        slopes.template set<T>(d);
        issueByColumns<kDim, kColumns>(gradX, slopes, tileX);
      }
      if constexpr (kPlanted<Planted::hopperBackwardEarly>) {
        __syncwarp();
        if (lane == 0 && part == 0) ptx::mbarrierArrive(stages.empty(stage.index));
      }
      if constexpr (kFirst && kSecond) {
        ptx::wgmmaWait<kPlanted<Planted::hopperBackwardWait> ? 1 : 0>(flat(gradX), flat(gradY));
      } else if constexpr (kFirst) {
        ptx::wgmmaWait<0>(flat(gradX));
      } else {
        ptx::wgmmaWait<0>(flat(gradY));
      }
    }
    if constexpr (!kPlanted<Planted::hopperBackwardWarp>) __syncwarp();
    if (lane == 0 && !kPlanted<Planted::hopperBackwardEarly>) {
      ptx::mbarrierArrive(stages.empty(stage.index));
    }
    stage.advance();
  }

  // Staged over the rows that stayed, which no warp multiplies any more.
  if constexpr (!kPlanted<Planted::hopperBackwardStaging>) meet();
  const auto walk = stages.walk(a);
  const int row = walk.row + ownRow - lane / 4;
  const auto stagingOf = [&](uint8_t* rows) { return reinterpret_cast<T*>(rows) + own * kDim; };
  if constexpr (kFirst) {
    const float scale[2] = {p.score.scale, p.score.scale};
    storeRows<kDim>(gradX.at[0], scale, stagingOf(stages.second(group)),
                    walk.template gradFirst<T>(), row, walk.rows());
  }
  if constexpr (kSecond) {
    const float grown[2] = {p.terms.grown, p.terms.grown};
    storeRows<kDim>(gradY.at[0], grown, stagingOf(stages.first(group)),
                    walk.template gradSecond<T>(), row, walk.rows());
  }
}

template <class Tile, class Mask>
__device__ __forceinline__ void backward90(const Backward90& w, uint8_t* shared) {
  const BackwardStages<Tile, Mask> stages{shared};
  const BackwardArguments& a = w.arguments;
  if (threadIdx.x < 32) {
    stages.find(a);
    if (threadIdx.x == 0) stages.initialise();
  }
  if constexpr (!kPlanted<Planted::hopperBackwardInit>) __syncthreads();
  if (stages.held().surplus) return;
  const int group = static_cast<int>(threadIdx.x) / 128 - 1;
  if (group < 0) {
    ptx::registersDecrease<24>();
    produceBackward<Tile, Mask>(w, stages);
  } else {
    ptx::registersIncrease<240>();
    if (a.problem.score.plain) {
      consumeBackward<Tile, true, Mask>(a, stages, group);
    } else {
      consumeBackward<Tile, false, Mask>(a, stages, group);
    }
  }
}

template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    attentionBackward90(const __grid_constant__ Backward90 w) {
#if LONGSPAN_SM90A
  LONGSPAN_SHARED(shared);
  backward90<Tile, Mask>(w, shared);
#endif
}

// Where calls are rare and registers allow it, both types share a kernel.
template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    attentionBackward90OfEither(const __grid_constant__ Backward90 w, bool isBf16) {
#if LONGSPAN_SM90A
  LONGSPAN_SHARED(shared);
  if (isBf16) {
    backward90<typename Tile::template With<bf16>, Mask>(w, shared);
  } else {
    backward90<typename Tile::template With<f16>, Mask>(w, shared);
  }
#endif
}

}  // namespace longspan::cuda
