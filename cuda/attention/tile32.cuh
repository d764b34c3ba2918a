// Tiles of f32 in shared memory and the products of a block over them, on the CUDA cores.
//
// Threads form a grid of 16 columns; thread (y, x) owns rows 4y .. 4y + 3 of every product, and
// columns x + 16 j of scores or 4x + 64 j and the next three of outputs. A tile's rows are kDim + 4
// floats apart, so that 16-byte reads of neighbouring rows fall into different banks.
#pragma once

#include "cuda/attention/problem.cuh"
#include "cuda/ptx.cuh"

namespace longspan::cuda {

inline constexpr int kThreadRows = 4;

template <int kDim>
inline constexpr int kPitch = kDim + 4;

// Copies rows [row, row + kRows) by cp.async; the caller commits. Rows from `end` on and columns
// beyond the width become zeros.
template <int kDim, int kRows, int kThreads, class Source>
__device__ __forceinline__ void loadTile32(float* tile, const Source& source, int row, int end,
                                           int thread) {
  if (source.aligned) {
    constexpr int kChunks = kDim / 4;
    static_assert(kThreads % kChunks == 0 && kRows * kChunks % kThreads == 0);
    const int chunk = thread % kChunks;
    const int bytes = clampTo(source.width - chunk * 4, 0, 4) * 4;
#pragma unroll 4
    for (int r = thread / kChunks; r < kRows; r += kThreads / kChunks) {
      const float* const from = source.find(row + r, end);
      const bool valid = from != nullptr && bytes > 0;
      ptx::copyAsyncZeroFill<16>(tile + r * kPitch<kDim> + chunk * 4,
                                 valid ? from + chunk * 4 : source.data, valid ? bytes : 0);
    }
    return;
  }
#pragma unroll 1
  for (int at = thread; at < kRows * kDim; at += kThreads) {
    const int r = at / kDim, column = at % kDim;
    const float* const from = source.find(row + r, end);
    const bool valid = from != nullptr && column < source.width;
    ptx::copyAsync<4>(tile + r * kPitch<kDim> + column,
                      valid ? from + column * source.step : source.data, valid);
  }
}

// s[i][j] += row (4 y + i) of a times row (x + 16 j) of b.
template <int kDim, int kColumns>
__device__ __forceinline__ void multiplyByRows32(float (&s)[kThreadRows][kColumns], const float* a,
                                                 const float* b, int y, int x) {
#pragma unroll(kLeanCode ? 2 : 4)
  for (int d = 0; d < kDim; d += 4) {
    Vector<float, 4> left[kThreadRows], right[kColumns];
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      left[i] =
          *reinterpret_cast<const Vector<float, 4>*>(a + (kThreadRows * y + i) * kPitch<kDim> + d);
    }
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      right[j] = *reinterpret_cast<const Vector<float, 4>*>(b + (x + 16 * j) * kPitch<kDim> + d);
    }
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) s[i][j] = fmaf(left[i].at[e], right[j].at[e], s[i][j]);
      }
    }
  }
}

// o[i][c] += sum over k of w[4 y + i][k] row k of b, columns 4 x + 64 (c / 4) + c % 4. The rows of
// w are kKeys + 4 floats apart.
template <int kDim, int kKeys>
__device__ __forceinline__ void multiplyByColumns32(float (&o)[kThreadRows][kDim / 16],
                                                    const float* w, const float* b, int y, int x) {
#pragma unroll 2
  for (int k = 0; k < kKeys; k += 4) {
    Vector<float, 4> weight[kThreadRows];
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      weight[i] =
          *reinterpret_cast<const Vector<float, 4>*>(w + (kThreadRows * y + i) * kPitch<kKeys> + k);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
#pragma unroll
      for (int c = 0; c < kDim / 64; ++c) {
        const auto value =
            *reinterpret_cast<const Vector<float, 4>*>(b + (k + e) * kPitch<kDim> + 4 * x + 64 * c);
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            o[i][4 * c + n] = fmaf(weight[i].at[e], value.at[n], o[i][4 * c + n]);
          }
        }
      }
    }
  }
}

// The same with weights in the threads' registers: thread x of a row holds keys x + 16 j.
template <int kDim, int kColumns>
__device__ __forceinline__ void multiplyByHeldWeights32(float (&o)[kThreadRows][kDim / 16],
                                                        const float (&w)[kThreadRows][kColumns],
                                                        const float* b, int x) {
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
#pragma unroll 4
    for (int k = 0; k < 16; ++k) {
      float weight[kThreadRows];
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
        weight[i] = __shfl_sync(0xffffffffu, w[i][j], k, 16);
      }
#pragma unroll
      for (int c = 0; c < kDim / 64; ++c) {
        const auto value = *reinterpret_cast<const Vector<float, 4>*>(
            b + (16 * j + k) * kPitch<kDim> + 4 * x + 64 * c);
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
          for (int n = 0; n < 4; ++n)
            o[i][4 * c + n] = fmaf(weight[i], value.at[n], o[i][4 * c + n]);
        }
      }
    }
  }
}

// Row `row` of the output, the columns of thread x.
template <int kDim>
__device__ __forceinline__ void storeRow32(const float (&o)[kDim / 16], float factor,
                                           const Rows<float>& target, int row, int x) {
#pragma unroll
  for (int c = 0; c < kDim / 64; ++c) {
    const int column = 4 * x + 64 * c;
    if (target.aligned && column + 4 <= target.width) {
      Vector<float, 4> piece;
#pragma unroll
      for (int n = 0; n < 4; ++n) piece.at[n] = o[4 * c + n] * factor;
      *reinterpret_cast<Vector<float, 4>*>(target.data + row * target.stride + column) = piece;
    } else {
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        if (column + n < target.width) target.at(row, column + n) = o[4 * c + n] * factor;
      }
    }
  }
}

}  // namespace longspan::cuda
