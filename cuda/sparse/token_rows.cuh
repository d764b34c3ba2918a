// Tokens [B, H, N, D] of any type and stride, a warp to a token: lane l has elements l, l + 32, ...
#pragma once

#include "cuda/any_element.cuh"
#include "cuda/reduce.cuh"

namespace longspan::cuda {

// An element of a floating type; ptxas keeps the short switch in registers.
__device__ __forceinline__ float loadFloat(const AnyElements& x, int64_t at) {
  if (x.dtype == DType::f32) return static_cast<const float*>(x.data)[at];
  if (x.dtype == DType::f16) return toFloat(static_cast<const f16*>(x.data)[at]);
  return toFloat(static_cast<const bf16*>(x.data)[at]);
}

struct TokenRows {
  AnyElements elements;
  int64_t batch, head, token, step;  // strides
  int64_t heads, n, dim;

  TokenRows() = default;
  explicit TokenRows(const TensorView& x)
      : elements(x),
        batch(x.stride[0]),
        head(x.stride[1]),
        token(x.stride[2]),
        step(x.stride[3]),
        heads(x.shape[1]),
        n(x.shape[2]),
        dim(x.shape[3]) {}

  __device__ __forceinline__ int64_t at(int64_t b, int64_t h, int64_t i) const {
    return b * batch + h * head + i * token;
  }
  __device__ __forceinline__ float load(int64_t row, int64_t d) const {
    return loadFloat(elements, row + d * step);
  }
};

// Vectors shorter than this are taken for that long.
inline constexpr float kLeastLength = 1e-12f;

__device__ __forceinline__ float warpSum(float x) { return mergeLanes(x, 32, Add{}); }

__device__ __forceinline__ float inverseLength(float squares) {
  return rsqrtf(fmaxf(squares, kLeastLength * kLeastLength));
}

// 1 / |x| of a token, in every lane.
__device__ __forceinline__ float inverseLengthOf(const TokenRows& x, int64_t row) {
  float squares = 0;
  for (int64_t d = threadIdx.x % 32; d < x.dim; d += 32) {
    const float value = x.load(row, d);
    squares += value * value;
  }
  return inverseLength(warpSum(squares));
}

}  // namespace longspan::cuda
