// What happens to finished sums: bias, the kept pre-activation, activation, rounding, stores of 16
// bytes. Or, for a part of K, the sums are stored as they are.
#pragma once

#include "cuda/dense/matmul_problem.cuh"
#include "cuda/pointwise.cuh"

namespace longspan::cuda::matmul {

// N values in a row, the first `count` of them valid; `whole` when all are and the address is
// aligned to them.
template <class T, int N>
__device__ __forceinline__ void storeRun(T* to, const float (&x)[N], int count, bool whole) {
  constexpr int kPart = 16 / sizeof(T) < N ? 16 / sizeof(T) : N;
  if (whole) {
#pragma unroll
    for (int i = 0; i < N; i += kPart) {
      Vector<T, kPart> part;
#pragma unroll
      for (int j = 0; j < kPart; ++j) part.at[j] = fromFloat<T>(x[i + j]);
      *reinterpret_cast<Vector<T, kPart>*>(to + i) = part;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    if (i < count) to[i] = fromFloat<T>(x[i]);
  }
}

// Finishes runs of N columns that begin at `column`, for any number of rows.
template <class T, int N>
class Epilogue {
 public:
  __device__ __forceinline__ Epilogue(const Problem& p, const Tile& tile, int64_t column,
                                      bool partial)
      : p_(p), partial_(partial) {
    const int64_t left = p.n - column;
    count_ = left < 0 ? 0 : left < N ? static_cast<int>(left) : N;
    whole_ = count_ == N && p.n % N == 0;
    first_ = int64_t{tile.split * p.batches + tile.batch} * p.m * p.n + column;
    if (partial) return;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      bias_[i] = 0.f;
      if (p.bias != nullptr && i < count_) {
        bias_[i] = toFloat(static_cast<const T*>(p.bias)[(column + i) * p.biasStep]);
      }
    }
  }

  // `row` lies inside y.
  __device__ __forceinline__ void operator()(float (&x)[N], int64_t row) const {
    const int64_t at = first_ + row * p_.n;
    if (partial_) {
      storeRun(p_.partial + at, x, count_, whole_);
      return;
    }
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] += bias_[i];
    if (p_.preactivation != nullptr) {
      storeRun(static_cast<T*>(p_.preactivation) + at, x, count_, whole_);
    }
    activate(p_.activation, x);
    storeRun(static_cast<T*>(p_.y) + at, x, count_, whole_);
  }

 private:
  const Problem& p_;
  const bool partial_;
  int64_t first_;
  int count_;
  bool whole_;
  float bias_[N];
};

// Finishes a tile whose sums lie in shared memory, kRow words from row to row. A thread keeps its
// columns: it reads their bias once.
template <class T, int kRows, int kColumns, int kRow, int kThreads>
__device__ __forceinline__ void storeTile(const Problem& p, const Tile& tile, const float* sums) {
  constexpr int kRun = 8, kRuns = kColumns / kRun, kStep = kThreads / kRuns;
  static_assert(kThreads % kRuns == 0 && kRows % kStep == 0);
  const int run = static_cast<int>(threadIdx.x) % kRuns * kRun;
  const Epilogue<T, kRun> finish(p, tile, tile.column + run, p.splits > 1);
#pragma unroll 1
  for (int row = static_cast<int>(threadIdx.x) / kRuns; row < kRows; row += kStep) {
    if (tile.row + row >= p.m) break;
    float x[kRun];
#pragma unroll
    for (int i = 0; i < kRun; i += 4) {
      const auto part = *reinterpret_cast<const float4*>(sums + row * kRow + run + i);
      x[i] = part.x, x[i + 1] = part.y, x[i + 2] = part.z, x[i + 3] = part.w;
    }
    finish(x, tile.row + row);
  }
}

}  // namespace longspan::cuda::matmul
