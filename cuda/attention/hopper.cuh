// What the sm_90a kernels of attention share: tensor maps of [B, H, tokens, dim] operands, tiles as
// bulk copies bring them, and the products of warpgroups over such tiles.
//
// A tile of rows lies in panels [kDim / 64][rows][64] with the 128-byte swizzle of the copies, its
// base aligned to 1024 bytes. Both products of attention read it as it lies: the first one along
// dimensions (k-major), the second one along rows.
#pragma once

#include "cuda/attention/tile16.cuh"
#include "cuda/ring.cuh"
#include "cuda/tensor_map.h"

namespace longspan::cuda {

inline constexpr int kPanel = 64;  // elements: the 128 bytes that a swizzle spans

// ---- Copies: one thread issues them
// ---------------------------------------------------------------------------------------------

// Rows [row, row + kRows) of a head. The barrier counts kRows kDim elements, zeros included that
// stand for rows and columns outside of the tensor.
template <int kDim, int kRows, class T>
__device__ __forceinline__ void bulkLoadTile(T* tile, const TensorMap& map, uint64_t* barrier,
                                             int row, int h, int b) {
#pragma unroll
  for (int panel = 0; panel < kDim / kPanel; ++panel) {
    ptx::bulkLoad(tile + panel * kRows * kPanel, &map, barrier, panel * kPanel, row, h, b);
  }
}

// Rows [from, kRows) of such a tile become zeros, by kThreads threads; swizzling moves nothing out
// of its row. Who multiplies the tile then needs a proxy fence.
template <int kDim, int kRows, int kThreads, class T>
__device__ __forceinline__ void clearRows(T* tile, int from, int thread) {
  constexpr int kChunks = kPanel / 8;
  const int count = (kRows - from) * kChunks;
  for (int panel = 0; panel < kDim / kPanel; ++panel) {
    T* const rows = tile + (panel * kRows + from) * kPanel;
    for (int i = thread; i < count; i += kThreads) {
      *reinterpret_cast<Vector<uint32_t, 4>*>(rows + 8 * i) = {};
    }
  }
}

// ---- Products: a warpgroup has 64 rows, 16 of them each of its warps
// ---------------------------------------------------------------------------------------------

// The accumulators as wgmma names them; their layout is that of mma.
template <int kColumns>
__device__ __forceinline__ float (&flat(Products<1, kColumns>& x))[kColumns / 2] {
  return reinterpret_cast<float(&)[kColumns / 2]>(x.at);
}

// 16 dimensions from 16 `step` on, of the rows of a tile of kRows from `tile` on.
template <int kRows, class T>
__device__ __forceinline__ uint64_t alongDimensions(const T* tile, int step) {
  return ptx::matrixDescriptor(tile + step / 4 * kRows * kPanel + step % 4 * 16, 0, 1024,
                               ptx::Swizzle::bytes128);
}
// 16 rows from 16 `step` on, of all dimensions.
template <int kRows, class T>
__device__ __forceinline__ uint64_t alongRows(const T* tile, int step) {
  return ptx::matrixDescriptor(tile + step * 16 * kPanel, kRows * kPanel * 2, 1024,
                               ptx::Swizzle::bytes128);
}

// s = 64 rows, from `rows` on in a tile of kRows, times the kColumns rows from `columns` on in a
// tile of kTile, by default all of it. Issued and committed.
template <int kDim, int kRows, int kTile = 0, class T, int kColumns>
__device__ __forceinline__ void issueByRows(Products<1, kColumns>& s, const T* rows,
                                            const T* columns) {
  using ptx::Major;
  constexpr int kOf = kTile == 0 ? kColumns : kTile;
  ptx::wgmmaFence();
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    ptx::wgmma<T, kColumns, Major::k, Major::k>(flat(s), alongDimensions<kRows>(rows, step),
                                                alongDimensions<kOf>(columns, step), step > 0);
  }
  ptx::wgmmaCommit();
}

// o += weights, in registers, times the kRows rows from `tile` on in a tile of kTile, by default
// all of it. Issued and committed.
template <int kDim, int kTile = 0, class T, int kRows>
__device__ __forceinline__ void issueByColumns(Products<1, kDim>& o, const Weights<1, kRows>& w,
                                               const T* tile) {
  ptx::wgmmaFence();
#pragma unroll
  for (int step = 0; step < kRows / 16; ++step) {
    ptx::wgmma<T, kDim, ptx::Major::other>(
        flat(o), w.a[0][step], alongRows < kTile == 0 ? kRows : kTile > (tile, step), true);
  }
  ptx::wgmmaCommit();
}

// ---- Host
// ---------------------------------------------------------------------------------------------

// Whether bulk copies can read an operand of so many entries, heads and tokens: rows and base on 16
// bytes, strides upwards, not broadcast.
inline bool mapped(const Operand& t, int batch, int heads, int tokens) {
  constexpr int64_t kFarthest = (int64_t{1} << 40) / 2;
  const auto upwards = [](int64_t stride, int length) {
    return length == 1 || (stride > 0 && stride < kFarthest);
  };
  return t.aligned && tokens > 0 && upwards(t.token, tokens) && upwards(t.head, heads) &&
         upwards(t.batch, batch);
}

// The map of boxes of `rows` tokens by one panel. Coordinates: dimension, token, head, entry.
inline cudaError_t mapTokens(TensorMap* map, const Operand& t, DType type, int batch, int heads,
                             int tokens, int dim, int rows) {
  TensorMapLayout layout;
  const size_t element = sizeOf(type);
  layout.type = type;
  layout.rank = 4;
  layout.base = t.data;
  layout.swizzleBytes = kPanel * static_cast<int>(element);
  const int64_t stride[4] = {1, t.token, t.head, t.batch};
  const int extent[4] = {dim, tokens, heads, batch};
  for (int i = 0; i < 4; ++i) {
    layout.extent[i] = static_cast<uint64_t>(std::max(extent[i], 1));  // of none nothing is read
    // The stride of an axis of one element is free, but must be one that a map may have.
    layout.strideBytes[i] = extent[i] <= 1 ? (layout.extent[0] * element + 15) / 16 * 16
                                           : static_cast<uint64_t>(stride[i]) * element;
    layout.box[i] = 1;
  }
  layout.box[0] = kPanel;
  layout.box[1] = static_cast<uint32_t>(rows);
  return encodeTensorMap(map, layout);
}

}  // namespace longspan::cuda
