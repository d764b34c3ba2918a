// Code by the type of elements that is known at run time: on the host to choose a kernel, on the
// GPU in operators too rare to have a kernel per type, behind a branch that their threads take
// alike.
#pragma once

#include "cuda/portable.cuh"

// Callable from both sides with what is callable from one.
#if defined(__CUDACC__)
#define LONGSPAN_DISPATCH                             \
  _Pragma("nv_exec_check_disable") template <class F> \
  __host__ __device__ __forceinline__
#else
#define LONGSPAN_DISPATCH \
  template <class F>      \
  __forceinline__
#endif

namespace longspan::cuda {

// Calls f(Tag<T>{}) with the type of a float on the GPU: of up to 32 bits.
LONGSPAN_DISPATCH decltype(auto) dispatchNarrow(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f16:
      return f(Tag<f16>{});
    case DType::bf16:
      return f(Tag<bf16>{});
    default:
      return f(Tag<float>{});
  }
}

// With any type but f64.
LONGSPAN_DISPATCH decltype(auto) dispatchStored(DType dtype, F&& f) {
  switch (dtype) {
    case DType::i32:
      return f(Tag<int32_t>{});
    case DType::u8:
      return f(Tag<uint8_t>{});
    default:
      return dispatchNarrow(dtype, static_cast<F&&>(f));
  }
}

// With the unsigned integer of so many bytes, up to 4: elements that are only moved are seen as
// such, so that a few types serve all dtypes.
LONGSPAN_DISPATCH decltype(auto) dispatchBits(size_t bytes, F&& f) {
  switch (bytes) {
    case 1:
      return f(Tag<uint8_t>{});
    case 2:
      return f(Tag<uint16_t>{});
    default:
      return f(Tag<uint32_t>{});
  }
}

// The same with up to 8 bytes.
LONGSPAN_DISPATCH decltype(auto) dispatchWideBits(size_t bytes, F&& f) {
  return bytes == 8 ? f(Tag<uint64_t>{}) : dispatchBits(bytes, static_cast<F&&>(f));
}

}  // namespace longspan::cuda

#undef LONGSPAN_DISPATCH
