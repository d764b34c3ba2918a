// Rows of f32 that several launches add to, in the order of the stream: row = before * row + factor
// * what a block holds. A thread adds to the elements that it holds, of 8 or 16 bytes at a time.
#pragma once

#include "cuda/attention/tile16.cuh"
#include "cuda/attention/tile32.cuh"

namespace longspan::cuda {

// The elements of row h of an mma accumulator, to row `row` of the target, if there is one.
template <int kDim>
__device__ __forceinline__ void mergePairs(const float (&x)[kDim / 8][4], int h, float factor,
                                           float before, const Rows<float>& target, int row) {
  if (row < 0) return;
  const int column = threadIdx.x % 4 * 2;
  float* const to = target.data + row * target.stride + column;
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n) {
    if (n * 8 + column >= target.width) continue;
    // Rows are padded to an even number of elements.
    auto* const pair = reinterpret_cast<Vector<float, 2>*>(to + n * 8);
    Vector<float, 2> y = *pair;
#pragma unroll
    for (int i = 0; i < 2; ++i) y.at[i] = fmaf(before, y.at[i], factor * x[n][2 * h + i]);
    *pair = y;
  }
}

// The elements of a thread of tile32.cuh.
template <int kDim>
__device__ __forceinline__ void mergeRow32(const float (&x)[kDim / 16], float factor, float before,
                                           const Rows<float>& target, int row, int thread) {
#pragma unroll
  for (int c = 0; c < kDim / 64; ++c) {
    const int column = 4 * thread + 64 * c;
    if (target.aligned && column + 4 <= target.width) {
      auto* const at =
          reinterpret_cast<Vector<float, 4>*>(target.data + row * target.stride + column);
      Vector<float, 4> y = *at;
#pragma unroll
      for (int n = 0; n < 4; ++n) y.at[n] = fmaf(before, y.at[n], factor * x[4 * c + n]);
      *at = y;
    } else {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        if (column + n >= target.width) continue;
        float& y = target.at(row, column + n);
        y = fmaf(before, y, factor * x[4 * c + n]);
      }
    }
  }
}

}  // namespace longspan::cuda
