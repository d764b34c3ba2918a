// What every matmul kernel is given, and how a block finds its tile.
//
// Both operands are seen as rows of K: a has M rows, b has N (b's columns). An operand is "k-major"
// when K is its contiguous axis, "row-major" (Major::other) when its rows are.
#pragma once

#include "cpp/ops/dense/matmul.h"
#include "cuda/portable.cuh"

namespace longspan::cuda::matmul {

// Batch or summed axes: lengths, and strides of both operands in elements.
struct Axes {
  int rank = 0;
  ops::MatmulShape::Axis axis[kMaxRank] = {};
};

struct Offsets {
  int64_t a = 0, b = 0;
};

// Adds those of the index-th place of the axes.
__device__ __forceinline__ void addOffsets(Offsets& at, const Axes& axes, uint32_t index) {
  for (int i = axes.rank - 1; i >= 0; --i) {
    const ops::MatmulShape::Axis& axis = axes.axis[i];
    const auto length = static_cast<uint32_t>(axis.length);
    const int64_t position = i == 0 ? index : index % length;
    if (i != 0) index /= length;
    at.a += position * axis.a;
    at.b += position * axis.b;
  }
}
__device__ __forceinline__ Offsets offsetsOf(const Axes& axes, uint32_t index) {
  Offsets at;
  addOffsets(at, axes, index);
  return at;
}

struct Operand {
  const void* data = nullptr;
  int64_t row = 0, k = 0;  // strides in elements
  bool vectors = false;    // one stride is 1 and everything else allows accesses of 16 bytes
};

struct Problem {
  Operand a, b;
  int64_t m = 0, n = 0, k = 0;
  Axes batch, summed;
  int batches = 1, sums = 1;

  const void* bias = nullptr;  // [n] or null
  int64_t biasStep = 0;
  ops::Activation activation = ops::Activation::none;
  void* y = nullptr;              // [batches, m, n]
  void* preactivation = nullptr;  // the same, or null

  // K, over all sums, is cut into so many parts. With more than one, part p writes its f32 sums to
  // partial[p][batches, m, n].
  int splits = 1;
  float* partial = nullptr;
};

// A tile of y and the slices of K that are multiplied for it.
struct Tile {
  int64_t row = 0, column = 0;  // first element
  int batch = 0, split = 0;
  int begin = 0, end = 0;  // slices, counted over all sums
};

__device__ __forceinline__ int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Tiles of one product and part of K follow each other, in bands of kBand rows of tiles that are
// walked column by column: blocks that run together share rows of a and columns of b in L2.
template <int kRows, int kColumns, int kDepth, uint32_t kBand = 8>
__device__ __forceinline__ Tile tileOf(const Problem& p, uint32_t index) {
  const auto rows = static_cast<uint32_t>(ceilDiv(p.m, kRows));
  const auto columns = static_cast<uint32_t>(ceilDiv(p.n, kColumns));
  const uint32_t outer = index / (rows * columns), inner = index % (rows * columns);
  const uint32_t band = inner / (kBand * columns), left = inner % (kBand * columns);
  const uint32_t most = rows - band * kBand, tall = most < kBand ? most : kBand;
  Tile t;
  t.row = int64_t{band * kBand + left % tall} * kRows;
  t.column = int64_t{left / tall} * kColumns;
  const int64_t slices = p.sums * ceilDiv(p.k, kDepth);
  t.batch = static_cast<int>(outer);
  t.end = static_cast<int>(slices);
  if (p.splits > 1) {
    const auto splits = static_cast<uint32_t>(p.splits);
    t.batch = static_cast<int>(outer / splits);
    t.split = static_cast<int>(outer % splits);
    t.begin = static_cast<int>(slices * t.split / p.splits);
    t.end = static_cast<int>(slices * (t.split + 1) / p.splits);
  }
  return t;
}

}  // namespace longspan::cuda::matmul
