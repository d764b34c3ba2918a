// The state of the online softmax of one query (Milakov and Gimelshein 2018), in base 2.
//
// A maximum is raised only when a score exceeds it by more than kSlack, or by the first visible
// key: sums and outputs are rarely rescaled, and weights stay below 2^kSlack, which f16 holds. The
// decision is each query's own. All lanes that share a query hold the same maximum; each holds a
// part of the sum.
#pragma once

#include "cuda/attention/score.cuh"

namespace longspan::cuda {

inline constexpr float kNegativeInfinity = -INFINITY;

struct RowState {
  static constexpr float kSlack = 8.0f;
  float top = kNegativeInfinity;
  float sum = 0;

  // Takes notice of the largest logit of new keys; the factor that what was summed shrinks by.
  __device__ __forceinline__ float raise(float logit) {
    if (!(logit > top + kSlack)) return 1.0f;
    const float shrink = ptx::exp2Approx(top - logit);  // 0 from -inf
    top = logit;
    sum *= shrink;
    return shrink;
  }
  // Takes a logit without a value into the whole sum; the factor that what was summed shrinks by.
  __device__ __forceinline__ float join(float logit) {
    const float shrink = raise(logit);
    sum += ptx::exp2Approx(logit - base());
    return shrink;
  }
  // What is subtracted from logits; a query that has seen no key yet must not subtract -inf.
  __device__ __forceinline__ float base() const { return top == kNegativeInfinity ? 0.0f : top; }

  // A query without keys gets 0 and -inf; NaN stays NaN. For the whole sum only.
  __device__ __forceinline__ float inverse() const { return sum == 0 ? 0.0f : 1.0f / sum; }
  __device__ __forceinline__ float logSumExp() const {
    return sum == 0 ? kNegativeInfinity : fmaf(top, kLn2, logf(sum));
  }
};

// Over lanes that differ in the bits below kLanes.
template <int kLanes>
__device__ __forceinline__ float lanesMax(float x) {
#pragma unroll
  for (int lane = 1; lane < kLanes; lane *= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, lane));
  return x;
}
template <int kLanes>
__device__ __forceinline__ float lanesSum(float x) {
#pragma unroll
  for (int lane = 1; lane < kLanes; lane *= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  return x;
}

}  // namespace longspan::cuda
