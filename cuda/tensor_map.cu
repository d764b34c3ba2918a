// The encoder is a driver function: found at run time, so that nothing links against libcuda.
#include <atomic>

#include "cuda/tensor_map.h"

namespace longspan::cuda {

#if !defined(LONGSPAN_EMULATED)
namespace {

CUtensorMapDataType elementOf(DType type) {
  switch (type) {
    case DType::f16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::bf16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::f64:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
    case DType::i32:
      return CU_TENSOR_MAP_DATA_TYPE_INT32;
    case DType::u8:
      return CU_TENSOR_MAP_DATA_TYPE_UINT8;
    default:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  }
}

CUtensorMapSwizzle swizzleOf(int bytes) {
  switch (bytes) {
    case 128:
      return CU_TENSOR_MAP_SWIZZLE_128B;
    case 64:
      return CU_TENSOR_MAP_SWIZZLE_64B;
    case 32:
      return CU_TENSOR_MAP_SWIZZLE_32B;
    default:
      return CU_TENSOR_MAP_SWIZZLE_NONE;
  }
}

using Encode = decltype(&cuTensorMapEncodeTiled);

cudaError_t findEncoder(Encode* encode) {
  static std::atomic<Encode> known = nullptr;
  *encode = known;
  if (*encode != nullptr) return cudaSuccess;
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found;
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry,
                                                             12000, cudaEnableDefault, &found);
  if (error != cudaSuccess) return error;
  if (found != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
  known = *encode = reinterpret_cast<Encode>(entry);
  return cudaSuccess;
}

}  // namespace

cudaError_t encodeTensorMap(TensorMap* map, const TensorMapLayout& layout) {
  Encode encode = nullptr;
  const cudaError_t error = findEncoder(&encode);
  if (error != cudaSuccess) return error;
  constexpr uint32_t kElementStrides[5] = {1, 1, 1, 1, 1};
  const CUresult result =
      encode(map, elementOf(layout.type), static_cast<uint32_t>(layout.rank),
             const_cast<void*>(layout.base), layout.extent, layout.strideBytes + 1, layout.box,
             kElementStrides, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzleOf(layout.swizzleBytes),
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}
#endif

}  // namespace longspan::cuda
