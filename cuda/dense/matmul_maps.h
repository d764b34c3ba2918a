// How bulk copies see the operands and results of matmul: tensor maps, encoded for each launch.
#pragma once

#include "cuda/dense/matmul_problem.cuh"
#include "cuda/tensor_map.h"

namespace longspan::cuda::matmul {

// A box holds 128 bytes of the contiguous axis: what one swizzle spans.
inline constexpr int kBoxElements = 64;

// An axis of a map that is a batch or summed axis of the problem, and where along it a batch
// element or sum lies: index / divisor % length.
struct OuterAxis {
  uint32_t divisor = 1, length = 1;
  bool summed = false;
};

// Axes of the map: the contiguous one, the other of row and k, then `outer`. Axes along which the
// operand is broadcast are none of the map's.
struct OperandMap {
  TensorMap map;
  OuterAxis outer[2];
};

// Whether such a map exists for both operands: runs of 16 bytes, strides upwards, and no more
// outer axes than that.
bool mapped(const Problem& p);

// Boxes of `rows` rows by 64 indices of K where K is contiguous, else of 64 by 64.
cudaError_t mapOperand(OperandMap* out, const Problem& p, bool isA, DType type, int rows);

// Whether y, or the kept pre-activation, at `data` can be written by bulk stores; if so, *out maps
// boxes of `rows` rows by 64 columns.
cudaError_t mapResult(TensorMap* out, bool* exists, const Problem& p, const void* data, DType type,
                      int rows);

}  // namespace longspan::cuda::matmul
