// How the threads of a block share a tile of pairs in attention_bias_backward.cu: products over 64
// dimensions at a time, and which pairs a thread owns. 128 threads.
#pragma once

#include "cuda/attention/pairs.cuh"
#include "cuda/attention/tile16.cuh"
#include "cuda/attention/tile32.cuh"

namespace longspan::cuda {

inline constexpr int kBiasThreads = 128, kBiasDims = 64;

// On tensor cores: a warp has 16 of the queries.
template <class T_>
struct BiasTile {
  using T = T_;
  using Values = Products<1, 64>;
  static constexpr int kRows = 64, kColumns = 64, kEach = 32;
  static constexpr int kOperand = 64 * kBiasDims;  // elements of a tile of rows or columns

  __device__ __forceinline__ static float& at(Values& x, int e) { return x.at[0][e / 4][e % 4]; }
  __device__ __forceinline__ static void clear(Values& x) { x.clear(); }
  __device__ __forceinline__ static int rowOf(int e) {
    return static_cast<int>(threadIdx.x) / 32 * 16 + threadIdx.x % 32 / 4 + e % 4 / 2 * 8;
  }
  __device__ __forceinline__ static int columnOf(int e) {
    return e / 4 * 8 + threadIdx.x % 4 * 2 + e % 2;
  }
  template <int kTileRows>
  __device__ __forceinline__ static void load(T* tile, const Rows<T>& source, int row, int end) {
    loadTile<kBiasDims, kTileRows, kBiasThreads>(tile, source, row, end, threadIdx.x);
  }
  __device__ __forceinline__ static void multiply(Values& x, const T* rows, const T* columns) {
    SharedRows<T, kBiasDims, 1> own;
    own.load(rows, threadIdx.x / 32 * 16);
    multiplyByRows<kBiasDims>(x, own, columns, 0);
  }
  // Bit e: whether dropout takes pair e.
  __device__ __forceinline__ static uint32_t dropped(const Problem& p, const Sequence& s, int h,
                                                     int row, int column) {
    uint32_t all = 0;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      all |= droppedPairs<false>(p, s, h, row + threadIdx.x / 32 * 16, column + 8 * n) << 4 * n;
    }
    return all;
  }
};

// In f32 on the CUDA cores.
template <>
struct BiasTile<float> {
  using T = float;
  struct Values {
    float at[kThreadRows][4];
  };
  static constexpr int kRows = 32, kColumns = 64, kEach = 16;
  static constexpr int kOperand = 64 * kPitch<kBiasDims>;

  __device__ __forceinline__ static float& at(Values& x, int e) { return x.at[e / 4][e % 4]; }
  __device__ __forceinline__ static void clear(Values& x) {
#pragma unroll
    for (int e = 0; e < kEach; ++e) at(x, e) = 0;
  }
  __device__ __forceinline__ static int rowOf(int e) {
    return static_cast<int>(threadIdx.x) / 16 * kThreadRows + e / 4;
  }
  __device__ __forceinline__ static int columnOf(int e) {
    return static_cast<int>(threadIdx.x) % 16 + e % 4 * 16;
  }
  template <int kTileRows>
  __device__ __forceinline__ static void load(float* tile, const Rows<float>& source, int row,
                                              int end) {
    loadTile32<kBiasDims, kTileRows, kBiasThreads>(tile, source, row, end, threadIdx.x);
  }
  __device__ __forceinline__ static void multiply(Values& x, const float* rows,
                                                  const float* columns) {
    multiplyByRows32<kBiasDims>(x.at, rows, columns, threadIdx.x / 16, threadIdx.x % 16);
  }
  __device__ __forceinline__ static uint32_t dropped(const Problem& p, const Sequence& s, int h,
                                                     int row, int column) {
    uint32_t all = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t bits = droppedPairs32<false>(p, s, h, row + rowOf(0), column + columnOf(j));
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) all |= (bits >> i & 1) << (4 * i + j);
    }
    return all;
  }
};

}  // namespace longspan::cuda
