// One producer warpgroup (TMA) and two consumer warpgroups of 64 queries each (wgmma), two stages
// of K and V. Pipelined: Q K^T of the next tile overlaps P V of this one, and the warpgroups take
// turns.
#pragma once

#include "cuda/emulator/tests/attention_common.cuh"

namespace longspan::cuda::test {

struct Sm90 {
  static constexpr int kQueries = 128, kKeys = 64, kDim = 64, kStages = 2, kThreads = 384;
  static constexpr int kTile = 64 * kDim * 2;  // bytes
  static constexpr int kShared = kQueries * kDim * 2 + 2 * kStages * kTile + 64;
};

// Shared memory of the block.
struct Sm90Stages {
  uint8_t *q, *k, *v;
  uint64_t *loadedQ, *full, *empty;
  __device__ __forceinline__ explicit Sm90Stages(uint8_t* shared)
      : q(shared),
        k(q + Sm90::kQueries * Sm90::kDim * 2),
        v(k + Sm90::kStages * Sm90::kTile),
        loadedQ(reinterpret_cast<uint64_t*>(v + Sm90::kStages * Sm90::kTile)),
        full(loadedQ + 1),
        empty(full + Sm90::kStages) {}
};

template <Planted Bug>
__device__ __forceinline__ void produce(const Sm90Stages& stages, const TensorMap& mapQ,
                                        const TensorMap& mapK, const TensorMap& mapV, int tiles,
                                        int head, int m0, int batch) {
  ptx::mbarrierArriveExpect(stages.loadedQ, Sm90::kQueries * Sm90::kDim * 2);
  ptx::bulkLoad(stages.q, &mapQ, stages.loadedQ, 0, head, m0, batch);
  ptx::bulkLoad(stages.q + Sm90::kTile, &mapQ, stages.loadedQ, 0, head, m0 + 64, batch);
  for (int j = 0; j < tiles; ++j) {
    const int stage = j % Sm90::kStages, parity = j / Sm90::kStages & 1;
    if (Bug != Planted::noWaitForEmpty) {
      ptx::mbarrierWait(stages.empty + stage, Bug == Planted::emptyParityWrong
                                                  ? static_cast<uint32_t>(parity)
                                                  : static_cast<uint32_t>(parity ^ 1));
    }
    ptx::mbarrierArriveExpect(stages.full + stage,
                              2 * Sm90::kTile + (Bug == Planted::expectTooMuch ? 16 : 0));
    ptx::bulkLoad(stages.k + stage * Sm90::kTile, &mapK, stages.full + stage, 0, head,
                  j * Sm90::kKeys, batch);
    ptx::bulkLoad(stages.v + stage * Sm90::kTile, &mapV, stages.full + stage, 0, head,
                  j * Sm90::kKeys, batch);
  }
}

__device__ __forceinline__ uint64_t operand(const uint8_t* tile, uint32_t leading,
                                            uint32_t stride = 1024) {
  return ptx::matrixDescriptor(tile, leading, stride, ptx::Swizzle::bytes128);
}

// s = Q K^T of stage `stage`, for warpgroup `group`; issued and committed, not waited for.
__device__ __forceinline__ void issueScores(float (&s)[32], const Sm90Stages& stages, int group,
                                            int stage) {
  using ptx::Major;
  ptx::wgmmaFence();
#pragma unroll
  for (int kk = 0; kk < 4; ++kk) {
    ptx::wgmma<bf16, 64, Major::k, Major::k>(
        s, operand(stages.q + group * Sm90::kTile + kk * 32, 16),
        operand(stages.k + stage * Sm90::kTile + kk * 32, 16), kk != 0);
  }
  ptx::wgmmaCommit();
}

// acc += P V of stage `stage`.
template <Planted Bug>
__device__ __forceinline__ void issueValues(float (&acc)[32], const uint32_t (&a)[4][4],
                                            const Sm90Stages& stages, int stage) {
  if (Bug != Planted::noWgmmaFence) ptx::wgmmaFence();
#pragma unroll
  for (int kk = 0; kk < 4; ++kk) {
    ptx::wgmma<bf16, 64, ptx::Major::other>(
        acc, a[kk],
        operand(stages.v + stage * Sm90::kTile + kk * 2048, 64 * 128,
                Bug == Planted::wrongStride ? 512 : 1024),
        true);
  }
  ptx::wgmmaCommit();
}

__device__ __forceinline__ void packAll(uint32_t (&a)[4][4], const float (&s)[32]) {
#pragma unroll
  for (int kk = 0; kk < 4; ++kk) packProbabilities<bf16>(a[kk], s, kk);
}

template <bool Causal, Planted Bug>
__device__ __forceinline__ void consume(const AttentionParams& p, const Sm90Stages& stages,
                                        float (&acc)[32], float (&m)[2], float (&l)[2], int tiles,
                                        int group, int row) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  for (int j = 0; j < tiles; ++j) {
    const int stage = j % Sm90::kStages, parity = j / Sm90::kStages & 1;
    ptx::mbarrierWait(stages.full + stage,
                      Bug == Planted::fullParityFixed ? 0u : static_cast<uint32_t>(parity));
    float s[32], alpha[2];
    issueScores(s, stages, group, stage);
    if (Bug != Planted::noWgmmaWait) ptx::wgmmaWait<0>(s);
    softmaxTile<Causal, Bug>(s, m, l, alpha, row, j * Sm90::kKeys, p);
#pragma unroll
    for (int i = 0; i < 32; ++i) acc[i] *= alpha[i >> 1 & 1];
    uint32_t a[4][4];
    packAll(a, s);
    issueValues<Bug>(acc, a, stages, stage);
    if (Bug == Planted::releasedEarly && lane == 0) ptx::mbarrierArrive(stages.empty + stage);
    ptx::wgmmaWait<0>(acc);
    if (Bug == Planted::oneThreadReleases) {  // of the warpgroup, for all of its warps
      if (threadIdx.x % 128 == 0) {
        for (int i = 0; i < 4; ++i) ptx::mbarrierArrive(stages.empty + stage);
      }
    } else if (Bug != Planted::releasedEarly) {
      if (lane == 0) ptx::mbarrierArrive(stages.empty + stage);
    }
  }
}

template <bool Causal, Planted Bug>
__device__ __forceinline__ void consumePipelined(const AttentionParams& p, const Sm90Stages& stages,
                                                 float (&acc)[32], float (&m)[2], float (&l)[2],
                                                 int tiles, int group, int row) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  float s[32], alpha[2];
  uint32_t a[4][4];
  const auto issue = [&](int j) {
    ptx::mbarrierWait(stages.full + j % Sm90::kStages,
                      static_cast<uint32_t>(j / Sm90::kStages & 1));
    issueScores(s, stages, group, j % Sm90::kStages);
  };
  if (tiles == 0) return;
  if (group == 1) ptx::barrierArrive(1, 256);
  issue(0);
  ptx::wgmmaWait<0>(s);
  softmaxTile<Causal, Bug>(s, m, l, alpha, row, 0, p);
  packAll(a, s);
  for (int j = 0; j < tiles; ++j) {
    const int stage = j % Sm90::kStages;
    const bool more = j + 1 < tiles;
    ptx::barrierSync(group + 1, 256);
    if (more) issue(j + 1);
    issueValues<Bug>(acc, a, stages, stage);
    ptx::barrierArrive(2 - group, 256);
    if (more) {
      ptx::wgmmaWait<Bug == Planted::waitsForTooFew ? 2 : 1>(s);
      softmaxTile<Causal, Bug>(s, m, l, alpha, row, (j + 1) * Sm90::kKeys, p);
    }
    if (Bug != Planted::rescaledInFlight) ptx::wgmmaWait<0>(acc);
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      if (more) acc[i] *= alpha[i >> 1 & 1];
    }
    if (Bug == Planted::rescaledInFlight) ptx::wgmmaWait<0>(acc);
    if (lane == 0) ptx::mbarrierArrive(stages.empty + stage);
    if (more) packAll(a, s);
  }
}

template <bool Causal, bool Pipelined, Planted Bug>
__global__ void __launch_bounds__(Sm90::kThreads, 1)
    attentionSm90(const __grid_constant__ TensorMap mapQ, const __grid_constant__ TensorMap mapK,
                  const __grid_constant__ TensorMap mapV, AttentionParams p) {
#if LONGSPAN_SM90A
  LONGSPAN_SHARED(shared);
  const Sm90Stages stages(shared);
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  const int warp = static_cast<int>(threadIdx.x) / 32 & 3,
            lane = static_cast<int>(threadIdx.x) & 31;
  const int head = static_cast<int>(blockIdx.y), batch = static_cast<int>(blockIdx.z);
  const int m0 = static_cast<int>(blockIdx.x) * Sm90::kQueries;
  const int end = Causal ? min(p.keys, m0 + Sm90::kQueries + p.keys - p.queries) : p.keys;
  const int tiles = end > 0 ? (end + Sm90::kKeys - 1) / Sm90::kKeys : 0;
  if (threadIdx.x == 0) {
    ptx::mbarrierInit(stages.loadedQ, 1);
    for (int i = 0; i < Sm90::kStages; ++i) {
      ptx::mbarrierInit(stages.full + i, 1);
      ptx::mbarrierInit(stages.empty + i, 8);  // consumer warps
    }
    if (Bug != Planted::noFenceAfterInit) ptx::fenceMbarrierInit();
  }
  if (Bug != Planted::noBarrierAfterInit) __syncthreads();
  if (warpgroup == 0) {
    ptx::registersDecrease<24>();
    if (threadIdx.x == 0 && tiles > 0) {
      produce<Bug>(stages, mapQ, mapK, mapV, tiles, head, m0, batch);
    }
    return;
  }
  ptx::registersIncrease<240>();
  const int group = warpgroup - 1;
  const int row = m0 + group * 64 + warp * 16 + lane / 4;
  float acc[32] = {}, m[2] = {-INFINITY, -INFINITY}, l[2] = {0.f, 0.f};
  if (Bug != Planted::noWaitForQ && tiles > 0) ptx::mbarrierWait(stages.loadedQ, 0);
  if constexpr (Pipelined) {
    consumePipelined<Causal, Bug>(p, stages, acc, m, l, tiles, group, row);
  } else {
    consume<Causal, Bug>(p, stages, acc, m, l, tiles, group, row);
  }
  writeRows<bf16>(p, acc, m, l, row, head, batch);
#endif
}

}  // namespace longspan::cuda::test
