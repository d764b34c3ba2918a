// Tensor maps: what a bulk copy knows about a tensor in global memory. Encoded on the host, passed
// to the kernel by value as `const __grid_constant__ TensorMap map`.
#pragma once

#include <cstdint>

#include "cpp/core/dtype.h"
#include "cuda/runtime.h"

namespace longspan::cuda {

using TensorMap = CUtensorMap;

struct TensorMapLayout {
  DType type = DType::bf16;
  int rank = 2;                  // 2..5 axes, innermost first
  const void* base = nullptr;    // 16-byte aligned
  uint64_t extent[5] = {};       // elements
  uint64_t strideBytes[5] = {};  // of axes 1..rank-1 (strideBytes[0] is ignored); multiples of 16
  uint32_t box[5] = {};          // tile, elements per axis, at most 256
  int swizzleBytes = 0;          // 0, 32, 64 or 128; at least the inner box in bytes
};

// cudaErrorInvalidValue when a rule above is broken, cudaErrorNotSupported when the driver lacks
// it.
cudaError_t encodeTensorMap(TensorMap* map, const TensorMapLayout& layout);

}  // namespace longspan::cuda
