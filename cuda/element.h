// Kernels that only move elements see them as unsigned integers of their size: a few types serve
// all dtypes. Plain C++: conversions of cpp/core/half.h must not meet those of the GPU.
#pragma once

#include "cpp/core/dtype.h"
#include "cpp/core/status.h"

namespace longspan::cuda {

// The bits of a number as an element of `dtype`, in the low bytes.
uint64_t elementBits(DType dtype, double x);

// Calls f(Tag<U>{}) with the unsigned integer as wide as an element of up to 4 bytes.
template <class F>
Status withElement(DType dtype, F&& f) {
  switch (sizeOf(dtype)) {
    case 1:
      return f(Tag<uint8_t>{});
    case 2:
      return f(Tag<uint16_t>{});
    default:
      return f(Tag<uint32_t>{});
  }
}

// The same for elements of any size.
template <class F>
Status withWideElement(DType dtype, F&& f) {
  return sizeOf(dtype) == 8 ? f(Tag<uint64_t>{}) : withElement(dtype, static_cast<F&&>(f));
}

// What stands for an element that an index out of range should have named: NaN in floats, -1 in
// i32, 255 in u8. A GPU cannot report such an index without stopping, so it shows in the data.
template <class U>
inline constexpr U kNoElement = static_cast<U>(~U{0});

}  // namespace longspan::cuda
