// What the two attention kernels under test share: online softmax over a tile of scores held as mma
// fragments, and the epilogue. Forward only, head dimension 64. They exist to prove the emulator:
// each comes with bugs that can be planted by a template argument.
#pragma once

#include <cmath>

#include "cuda/ptx.cuh"

namespace longspan::cuda::test {

enum class Planted {
  none,
  causalOffByOne,
  // sm_80
  noBarrierBeforeReuse,
  noBarrierAfterWait,
  waitOneGroupShort,
  wrongSwizzle,
  badSwizzle,  // consistent, so results are right, but with bank conflicts
  noRowPredicate,
  // sm_90a
  fullParityFixed,
  emptyParityWrong,
  noWaitForEmpty,
  expectTooMuch,
  noWgmmaWait,
  noWgmmaFence,
  releasedEarly,
  noWaitForQ,
  noBarrierAfterInit,
  noFenceAfterInit,
  oneThreadReleases,
  wrongStride,
  // sm_90a, pipelined
  waitsForTooFew,
  rescaledInFlight,
};

struct AttentionParams {
  const void *q, *k, *v;  // [batch, length, heads, 64]
  void* o;
  float* lse;  // [batch, heads, queries]
  int queries, keys, heads;
  float scaleLog2;
};

// s: scores of rows `row` and `row + 8`, 4 registers per 8 columns. Masks, updates the running
// maximum m and sum l (base 2), turns s into probabilities and returns the rescale factors.
template <bool Causal, Planted Bug>
__device__ __forceinline__ void softmaxTile(float (&s)[32], float (&m)[2], float (&l)[2],
                                            float (&alpha)[2], int row, int column,
                                            const AttentionParams& p) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const int diagonal = p.keys - p.queries + (Bug == Planted::causalOffByOne ? 1 : 0);
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const int c = column + i / 4 * 8 + lane % 4 * 2 + (i & 1), r = row + (i >> 1 & 1) * 8;
    const bool keep = c < p.keys && (!Causal || c <= r + diagonal);
    s[i] = keep ? s[i] * p.scaleLog2 : -INFINITY;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = m[half];
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      if ((i >> 1 & 1) == half) largest = fmaxf(largest, s[i]);
    }
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    const float base = largest == -INFINITY ? 0.f : largest;  // a row without a visible key
    float sum = 0.f;
    alpha[half] = ptx::exp2Approx(m[half] - base);
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      if ((i >> 1 & 1) != half) continue;
      s[i] = ptx::exp2Approx(s[i] - base);
      sum += s[i];
    }
    l[half] = l[half] * alpha[half] + sum;
    m[half] = largest;
  }
}

template <class T>
__device__ __forceinline__ void writeRows(const AttentionParams& p, const float (&acc)[32],
                                          const float (&m)[2], const float (&l)[2], int row,
                                          int head, int batch) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = l[half];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    const int r = row + half * 8;
    if (r >= p.queries) continue;
    const float inverse = total > 0.f ? 1.f / total : 0.f;
    T* o = static_cast<T*>(p.o) + ((size_t{1} * batch * p.queries + r) * p.heads + head) * 64;
#pragma unroll
    for (int g = 0; g < 8; ++g) {
      *reinterpret_cast<uint32_t*>(o + g * 8 + lane % 4 * 2) =
          pack<T>(acc[g * 4 + half * 2] * inverse, acc[g * 4 + half * 2 + 1] * inverse);
    }
    if (lane % 4 == 0) {
      p.lse[(size_t{1} * batch * p.heads + head) * p.queries + r] =
          total > 0.f ? (m[half] + log2f(total)) * 0.6931471805599453f : -INFINITY;
    }
  }
}

template <class T>
__device__ __forceinline__ void packProbabilities(uint32_t (&a)[4], const float (&s)[32],
                                                  int step) {
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = pack<T>(s[step * 8 + i * 2], s[step * 8 + i * 2 + 1]);
}

}  // namespace longspan::cuda::test
