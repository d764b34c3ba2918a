// Tiles of 16-bit elements in shared memory and the products of warps over them (mma.m16n8k16,
// ldmatrix, cp.async).
//
// A tile is [rows][kDim], kDim a multiple of 64. Of each row, the chunk of 16 bytes with index c
// lies at c ^ (row & 7): the eight rows that ldmatrix reads at one c then fall into different
// banks.
#pragma once

#include "cuda/attention/problem.cuh"
#include "cuda/ptx.cuh"

namespace longspan::cuda {

template <int kDim, class T>
__device__ __forceinline__ T* chunkAt(T* tile, int row, int chunk) {
  return tile + row * kDim + ((chunk ^ (row & 7)) << 3);
}

// Copies rows [row, row + kRows) by kThreads threads; rows from `end` on and columns beyond the
// width become zeros. Aligned rows go by cp.async (the caller commits), others by plain stores.
template <int kDim, int kRows, int kThreads, class T, class Source>
__device__ __forceinline__ void loadTile(T* tile, const Source& source, int row, int end,
                                         int thread) {
  constexpr int kChunks = kDim / 8, kEach = kRows * kChunks / kThreads, kStep = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows * kChunks % kThreads == 0);
  const int chunk = thread % kChunks, first = thread / kChunks;
  const int left = source.width - chunk * 8;  // elements of this chunk and those after it
  if (source.aligned) {
    const int bytes = clampTo(left, 0, 8) * 2;
    auto from = source.template walk<kEach, kStep>(row + first, chunk * 8, end);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int r = first + i * kStep;
      ptx::copyAsyncZeroFill<16>(chunkAt<kDim>(tile, r, chunk), from.at(i),
                                 from.holds(i, row + r < end) ? bytes : 0);
    }
    return;
  }
#pragma unroll 1
  for (int i = 0; i < kEach; ++i) {
    const int r = first + i * kStep;
    Vector<T, 8> piece;
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      piece.at[e] =
          source.holds(row + r, end) && e < left ? source.at(row + r, chunk * 8 + e) : T{};
    }
    *reinterpret_cast<Vector<T, 8>*>(chunkAt<kDim>(tile, r, chunk)) = piece;
  }
}

// ---- Operand A: 16 rows per row tile
// ---------------------------------------------------------------

template <int kDim, class T>
__device__ __forceinline__ void loadA(uint32_t (&a)[4], const T* tile, int row, int k) {
  const int lane = threadIdx.x % 32;
  ptx::loadMatrix<4>(a, chunkAt<kDim>(tile, row + lane % 16, k * 2 + lane / 16));
}

// Fragments of rows that stay, in registers...
template <class T, int kDim, int kRowTiles>
struct HeldRows {
  static constexpr int kUnroll = kDim / 16;
  uint32_t a[kRowTiles][kDim / 16][4];
  __device__ __forceinline__ void load(const T* tile, int row) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int k = 0; k < kDim / 16; ++k) loadA<kDim>(a[m][k], tile, row + m * 16, k);
    }
  }
  __device__ __forceinline__ void get(uint32_t (&out)[4], int m, int k) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = a[m][k][i];
  }
};

// ...or read from shared memory whenever they are needed.
template <class T, int kDim, int kRowTiles>
struct SharedRows {
  // Registers are short where rows are not held, most of all for sm_90 without its features.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900 && !LONGSPAN_SM90A
  static constexpr int kUnroll = 1;
#else
  static constexpr int kUnroll = 2;
#endif
  const T* tile;
  int row;
  __device__ __forceinline__ void load(const T* t, int r) { tile = t, row = r; }
  __device__ __forceinline__ void get(uint32_t (&out)[4], int m, int k) const {
    loadA<kDim>(out, tile, row + m * 16, k);
  }
};

// ---- Products
// ---------------------------------------------------------------------------------------

// Accumulators of 16 kRowTiles rows and kColumns columns: [row tile][group of 8 columns][4].
template <int kRowTiles, int kColumns>
struct Products {
  float at[kRowTiles][kColumns / 8][4];
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) at[m][n][i] = 0;
      }
    }
  }
};

// s[rows][columns] += A[rows][kDim] times rows [row, row + kColumns) of the tile.
template <int kDim, class T, class A, int kRowTiles, int kColumns>
__device__ __forceinline__ void multiplyByRows(Products<kRowTiles, kColumns>& s, const A& rows,
                                               const T* tile, int row) {
  const int lane = threadIdx.x % 32;
#pragma unroll A::kUnroll
  for (int k = 0; k < kDim / 16; ++k) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) rows.get(a[m], m, k);
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t b[4];
      ptx::loadMatrix<4>(
          b, chunkAt<kDim>(tile, row + n * 16 + lane / 16 * 8 + lane % 8, k * 2 + lane / 8 % 2));
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        ptx::mma<T>(s.at[m][2 * n], a[m], b[0], b[1]);
        ptx::mma<T>(s.at[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// Products rounded to T: accumulators are, pair by pair, the operand A of the next product.
template <int kRowTiles, int kColumns>
struct Weights {
  uint32_t a[kRowTiles][kColumns / 16][4];
  template <class T>
  __device__ __forceinline__ void set(const Products<kRowTiles, kColumns>& s) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          a[m][n / 2][n % 2 * 2 + h] = pack<T>(s.at[m][n][2 * h], s.at[m][n][2 * h + 1]);
        }
      }
    }
  }
  // dropped(m, n): bits of the elements of group n that become zero.
  template <class Dropped>
  __device__ __forceinline__ void drop(Dropped&& dropped) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kColumns / 8; ++n) {
        const uint32_t bits = dropped(m, n);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const uint32_t low = (bits >> 2 * h & 1) != 0 ? 0 : 0x0000ffffu;
          const uint32_t high = (bits >> 2 * h & 2) != 0 ? 0 : 0xffff0000u;
          a[m][n / 2][n % 2 * 2 + h] &= low | high;
        }
      }
    }
  }
};

// o[rows][kDim] += w[rows][kRows] times rows [row, row + kRows) of the tile.
template <int kDim, class T, int kRowTiles, int kRows>
__device__ __forceinline__ void multiplyByColumns(Products<kRowTiles, kDim>& o,
                                                  const Weights<kRowTiles, kRows>& w, const T* tile,
                                                  int row) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < kRows / 16; ++k) {
#pragma unroll
    for (int n = 0; n < kDim / 16; ++n) {
      uint32_t b[4];
      ptx::loadMatrixTransposed<4>(
          b, chunkAt<kDim>(tile, row + k * 16 + lane % 16, n * 2 + lane / 16));
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        ptx::mma<T>(o.at[m][2 * n], w.a[m][k], b[0], b[1]);
        ptx::mma<T>(o.at[m][2 * n + 1], w.a[m][k], b[2], b[3]);
      }
    }
  }
}

// ---- Output
// -----------------------------------------------------------------------------------------

// A warp writes 16 rows, through `staging` [16][kDim] of its own so that stores are of 16 bytes.
// Rows [row, end) exist.
template <int kDim, bool kFenced = true, class T, class Target>
__device__ __forceinline__ void storeRows(const float (&x)[kDim / 8][4], const float (&factor)[2],
                                          T* staging, const Target& target, int row, int end) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      *reinterpret_cast<uint32_t*>(chunkAt<kDim>(staging, g + 8 * h, n) + 2 * t) =
          pack<T>(x[n][2 * h] * factor[h], x[n][2 * h + 1] * factor[h]);
    }
  }
  if constexpr (kFenced) __syncwarp();
  constexpr int kChunks = kDim / 8;
  if (target.aligned && target.width % 8 == 0) {
#pragma unroll
    for (int i = 0; i < 16 * kChunks / 32; ++i) {
      const int at = lane + i * 32, r = at / kChunks, chunk = at % kChunks;
      T* const to = target.find(row + r, end);
      if (to != nullptr && chunk * 8 < target.width) {
        *reinterpret_cast<Vector<T, 8>*>(to + chunk * 8) =
            *reinterpret_cast<const Vector<T, 8>*>(chunkAt<kDim>(staging, r, chunk));
      }
    }
    return;
  }
#pragma unroll 1
  for (int at = lane; at < 16 * kDim; at += 32) {
    const int r = at / kDim, column = at % kDim;
    T* const to = target.find(row + r, end);
    if (to != nullptr && column < target.width) {
      to[column * target.step] = chunkAt<kDim>(staging, r, column / 8)[column % 8];
    }
  }
}

}  // namespace longspan::cuda
