// Approximate functions of the special-function unit, and what the compiler makes of registers. The
// emulator computes them exactly rounded to f32: hardware differs by about 2 ulp (ex2, rcp, rsqrt,
// lg2) and 2^-11 relative (tanh).
#pragma once

#include <cmath>

#include "cuda/ptx/base.cuh"

namespace longspan::cuda::ptx {

// 2^x; subnormal results become 0.
LONGSPAN_PTX float exp2Approx(float x) {
#if defined(LONGSPAN_EMULATED)
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.f : y;
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

LONGSPAN_PTX float log2Approx(float x) {
#if defined(LONGSPAN_EMULATED)
  return std::log2(x);
#else
  float y;
  asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// 1 / x; results below 2^-126 become 0.
LONGSPAN_PTX float reciprocalApprox(float x) {
#if defined(LONGSPAN_EMULATED)
  const float y = 1.f / x;
  return std::fabs(y) < 0x1p-126f ? std::copysign(0.f, y) : y;
#else
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

LONGSPAN_PTX float tanhApprox(float x) {
#if defined(LONGSPAN_EMULATED)
  return std::tanh(x);
#else
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#endif
}

// No instruction: the compiler keeps x as one register from here on, where it would otherwise carry
// its halves in two.
LONGSPAN_PTX void keepWhole([[maybe_unused]] uint32_t& x) {
#if !defined(LONGSPAN_EMULATED)
  asm("" : "+r"(x));
#endif
}

}  // namespace longspan::cuda::ptx
