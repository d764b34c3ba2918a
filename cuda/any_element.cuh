// Elements whose type is known at run time, one by one: for operators that are short of threads or
// of users rather than of speed.
#pragma once

#include "cpp/core/tensor_view.h"
#include "cuda/dispatch.cuh"

namespace longspan::cuda {

// The elements of a tensor; A is what arithmetic is done in.
struct AnyElements {
  void* data = nullptr;  // null: none
  DType dtype = DType::f32;

  AnyElements() = default;
  explicit AnyElements(const TensorView& t)
      : data(t.base + t.offset * static_cast<int64_t>(sizeOf(t.dtype))), dtype(t.dtype) {}

  template <class A>
  __device__ __forceinline__ A load(int64_t at) const {
    switch (dtype) {
      case DType::f16:
        return static_cast<A>(toFloat(static_cast<const f16*>(data)[at]));
      case DType::bf16:
        return static_cast<A>(toFloat(static_cast<const bf16*>(data)[at]));
      case DType::f64:
        return static_cast<A>(static_cast<const double*>(data)[at]);
      case DType::i32:
        return static_cast<A>(static_cast<const int32_t*>(data)[at]);
      case DType::u8:
        return static_cast<A>(static_cast<const uint8_t*>(data)[at]);
      default:
        return static_cast<A>(static_cast<const float*>(data)[at]);
    }
  }
  // Floats are rounded, integers wrap.
  template <class A>
  __device__ __forceinline__ void store(int64_t at, A x) const {
    switch (dtype) {
      case DType::f16: {
        const f16 value = fromFloat<f16>(static_cast<float>(x));
        static_cast<f16*>(data)[at] = value;
        break;
      }
      case DType::bf16: {
        const bf16 value = fromFloat<bf16>(static_cast<float>(x));
        static_cast<bf16*>(data)[at] = value;
        break;
      }
      case DType::f64:
        static_cast<double*>(data)[at] = static_cast<double>(x);
        break;
      case DType::i32:
        static_cast<int32_t*>(data)[at] = static_cast<int32_t>(x);
        break;
      case DType::u8:
        static_cast<uint8_t*>(data)[at] = static_cast<uint8_t>(static_cast<int32_t>(x));
        break;
      default:
        static_cast<float*>(data)[at] = static_cast<float>(x);
    }
  }
};

}  // namespace longspan::cuda
