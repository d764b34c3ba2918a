// Element types and their storage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace longspan {

enum class DType : uint8_t { f32, f16, bf16, f64, i32, u8 };
inline constexpr int kDTypeCount = 6;

constexpr size_t sizeOf(DType type) {
  constexpr size_t sizes[kDTypeCount] = {4, 2, 2, 8, 4, 1};
  return sizes[static_cast<int>(type)];
}

constexpr const char* nameOf(DType type) {
  constexpr const char* names[kDTypeCount] = {"f32", "f16", "bf16", "f64", "i32", "u8"};
  return names[static_cast<int>(type)];
}

constexpr bool isFloating(DType type) { return static_cast<int>(type) <= 3; }

// Storage only: arithmetic on 16-bit floats happens in f32 (half.h converts).
struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

template <class T>
struct Tag {
  using type = T;
};

template <class T>
constexpr DType dtypeOf() {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  if constexpr (std::is_same_v<T, f16>) return DType::f16;
  if constexpr (std::is_same_v<T, bf16>) return DType::bf16;
  if constexpr (std::is_same_v<T, double>) return DType::f64;
  if constexpr (std::is_same_v<T, int32_t>) return DType::i32;
  if constexpr (std::is_same_v<T, uint8_t>) return DType::u8;
}

// The type arithmetic is done in: f64 for f64, f32 for every narrower float.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double,
                                       std::conditional_t<std::is_integral_v<T>, T, float>>;

constexpr DType accumulatorOf(DType type) { return type == DType::f64 ? DType::f64 : DType::f32; }

// Calls f(Tag<T>{}) with the element type of a floating dtype; validate() has excluded the others.
template <class F>
decltype(auto) dispatchFloating(DType type, F&& f) {
  switch (type) {
    case DType::f16:
      return f(Tag<f16>{});
    case DType::bf16:
      return f(Tag<bf16>{});
    case DType::f64:
      return f(Tag<double>{});
    default:
      return f(Tag<float>{});
  }
}

template <class F>
decltype(auto) dispatchAny(DType type, F&& f) {
  switch (type) {
    case DType::i32:
      return f(Tag<int32_t>{});
    case DType::u8:
      return f(Tag<uint8_t>{});
    default:
      return dispatchFloating(type, static_cast<F&&>(f));
  }
}

}  // namespace longspan
