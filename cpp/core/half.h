// Scalar conversions between f32 and its 16-bit storage forms, round to nearest even, NaN kept.
// Vector forms live in cpp/cpu/simd.h and must agree with these bit for bit.
#pragma once

#include <bit>

#include "cpp/core/dtype.h"

namespace longspan {

inline float toFloat(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

inline bf16 toBf16(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  u += 0x7fffu + ((u >> 16) & 1u);
  return {static_cast<uint16_t>(u >> 16)};
}

inline float toFloat(f16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t magnitude = x.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) {
    const uint32_t quiet = magnitude > 0x7c00u ? 0x400000u : 0u;  // as the hardware does
    return std::bit_cast<float>(sign | 0x7f800000u | quiet | (magnitude << 13));
  }
  // Multiplying by 2^112 rebiases the exponent and normalises subnormals in one exact step.
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(scaled));
}

inline f16 toF16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (u >> 16) & 0x8000u;
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return {static_cast<uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu))};
  }
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {
    // Subnormal: adding 0.5 aligns the mantissa so that the FPU rounds it.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(aligned) - 0x3f000000u))};
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

// Uniform spelling for templates over the element type.
inline float load(float x) { return x; }
inline double load(double x) { return x; }
inline float load(f16 x) { return toFloat(x); }
inline float load(bf16 x) { return toFloat(x); }
inline int32_t load(int32_t x) { return x; }
inline uint8_t load(uint8_t x) { return x; }

template <class T, class A>
inline T store(A x) {
  if constexpr (std::is_same_v<T, f16>) {
    return toF16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<T, bf16>) {
    return toBf16(static_cast<float>(x));
  } else {
    return static_cast<T>(x);
  }
}

}  // namespace longspan
