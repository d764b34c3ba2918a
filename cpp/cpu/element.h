// Kernels that only move elements see them as unsigned integers of their size: four types serve all
// dtypes.
#pragma once

#include <bit>

#include "cpp/core/half.h"

namespace longspan::cpu {

// Calls f(Tag<U>{}) with the unsigned integer as wide as an element of `dtype`.
template <class F>
decltype(auto) withElement(DType dtype, F&& f) {
  switch (sizeOf(dtype)) {
    case 1:
      return f(Tag<uint8_t>{});
    case 2:
      return f(Tag<uint16_t>{});
    case 8:
      return f(Tag<uint64_t>{});
    default:
      return f(Tag<uint32_t>{});
  }
}

// The bits of a number as an element of `dtype`; U is as wide as the element.
template <class U>
U elementBits(DType dtype, double x) {
  U bits{};
  dispatchAny(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (sizeof(T) == sizeof(U)) bits = std::bit_cast<U>(store<T>(x));
  });
  return bits;
}

}  // namespace longspan::cpu
