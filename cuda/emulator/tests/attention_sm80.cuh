// 4 warps, tiles of 64 queries and 64 keys, K and V double-buffered by cp.async, ldmatrix, mma.
#pragma once

#include "cuda/emulator/tests/attention_common.cuh"

namespace longspan::cuda::test {

struct Sm80 {
  static constexpr int kTile = 64, kDim = 64, kThreads = 128;
  static constexpr int kShared = (kTile + 4 * kTile) * kDim * 2;
};

// 16-byte chunk `chunk` of a row; chunks of a row are permuted against bank conflicts.
template <Planted Bug, class T>
__device__ __forceinline__ T* chunkAt(T* tile, int row, int chunk) {
  constexpr int kMask = Bug == Planted::badSwizzle ? 3 : 7;
  return tile + row * Sm80::kDim + ((chunk ^ (row & kMask)) << 3);
}

template <Planted Bug, class T>
__device__ __forceinline__ void loadTile(T* to, const T* from, size_t stride, int rows, int row0) {
#pragma unroll
  for (int i = 0; i < 64 * 8 / Sm80::kThreads; ++i) {
    const int c = static_cast<int>(threadIdx.x) + i * Sm80::kThreads, r = c >> 3;
    const bool inside = Bug == Planted::noRowPredicate || row0 + r < rows;
    ptx::copyAsync<16>(chunkAt<Bug>(to, r, c & 7),
                       from + (inside ? static_cast<size_t>(row0 + r) * stride : 0) + (c & 7) * 8,
                       inside);
  }
}

template <class T, bool Causal, Planted Bug>
__global__ void __launch_bounds__(Sm80::kThreads) attentionSm80(AttentionParams p) {
  constexpr int kTile = Sm80::kTile, kDim = Sm80::kDim;
  LONGSPAN_SHARED(shared);
  T* sQ = reinterpret_cast<T*>(shared);
  T* sK = sQ + kTile * kDim;
  T* sV = sK + 2 * kTile * kDim;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) & 31;
  const int head = static_cast<int>(blockIdx.y), batch = static_cast<int>(blockIdx.z);
  const int m0 = static_cast<int>(blockIdx.x) * kTile;
  const size_t stride = static_cast<size_t>(p.heads) * kDim;
  const auto start = [&](const void* x, int length) {
    return static_cast<const T*>(x) + (size_t{1} * batch * length * p.heads + head) * kDim;
  };
  const T* q = start(p.q, p.queries);
  const T* k = start(p.k, p.keys);
  const T* v = start(p.v, p.keys);
  const int end = Causal ? min(p.keys, m0 + kTile + p.keys - p.queries) : p.keys;
  const int tiles = end > 0 ? (end + kTile - 1) / kTile : 0;
  float acc[32] = {}, m[2] = {-INFINITY, -INFINITY}, l[2] = {0.f, 0.f};
  const int row = m0 + warp * 16 + lane / 4;
  if (tiles > 0) {
    loadTile<Bug>(sQ, q, stride, p.queries, m0);
    loadTile<Bug>(sK, k, stride, p.keys, 0);
    loadTile<Bug>(sV, v, stride, p.keys, 0);
  }
  ptx::copyCommit();
  for (int j = 0; j < tiles; ++j) {
    T* tK = sK + (j & 1) * kTile * kDim;
    T* tV = sV + (j & 1) * kTile * kDim;
    if (j + 1 < tiles) {
      loadTile<Bug>(sK + (~j & 1) * kTile * kDim, k, stride, p.keys, (j + 1) * kTile);
      loadTile<Bug>(sV + (~j & 1) * kTile * kDim, v, stride, p.keys, (j + 1) * kTile);
    }
    ptx::copyCommit();
    ptx::copyWait<Bug == Planted::waitOneGroupShort ? 2 : 1>();
    if (Bug != Planted::noBarrierAfterWait) __syncthreads();
    float s[32] = {};
#pragma unroll
    for (int kk = 0; kk < kDim / 16; ++kk) {
      uint32_t a[4];
      ptx::loadMatrix(a, chunkAt<Bug>(sQ, warp * 16 + (lane & 15), kk * 2 + (lane >> 4)));
#pragma unroll
      for (int n = 0; n < kTile / 16; ++n) {
        uint32_t b[4];
        ptx::loadMatrix(
            b, chunkAt<Bug>(tK, n * 16 + (lane >> 4) * 8 + (lane & 7), kk * 2 + (lane >> 3 & 1)));
        ptx::mma<T>(reinterpret_cast<float(&)[4]>(s[n * 8]), a, b[0], b[1]);
        ptx::mma<T>(reinterpret_cast<float(&)[4]>(s[n * 8 + 4]), a, b[2], b[3]);
      }
    }
    float alpha[2];
    softmaxTile<Causal, Bug>(s, m, l, alpha, row, j * kTile, p);
#pragma unroll
    for (int i = 0; i < 32; ++i) acc[i] *= alpha[i >> 1 & 1];
#pragma unroll
    for (int kk = 0; kk < kTile / 16; ++kk) {
      uint32_t a[4];
      packProbabilities<T>(a, s, kk);
#pragma unroll
      for (int n = 0; n < kDim / 16; ++n) {
        uint32_t b[4];
        const int r = kk * 16 + (lane & 15), chunk = n * 2 + (lane >> 4);
        if (Bug == Planted::wrongSwizzle) {
          ptx::loadMatrixTransposed(b, tV + r * kDim + ((chunk ^ (r & 3)) << 3));
        } else {
          ptx::loadMatrixTransposed(b, chunkAt<Bug>(tV, r, chunk));
        }
        ptx::mma<T>(reinterpret_cast<float(&)[4]>(acc[n * 8]), a, b[0], b[1]);
        ptx::mma<T>(reinterpret_cast<float(&)[4]>(acc[n * 8 + 4]), a, b[2], b[3]);
      }
    }
    // The buffer read here is the target of the next iteration's copies.
    if (Bug != Planted::noBarrierBeforeReuse) __syncthreads();
  }
  writeRows<T>(p, acc, m, l, row, head, batch);
}

}  // namespace longspan::cuda::test
