// exp and exp2 on vectors. Polynomials are weighted least-squares fits of relative error with the
// leading coefficient held at 1, so that whole powers of two are exact.
#pragma once

#include <cmath>

#include "cpp/cpu/simd.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

// p * 2^n, n integral and |n| <= 252; overflow gives inf and subnormal results are rounded once.
LONGSPAN_INLINE vf vscale(vf p, vf n) {
#if defined(LONGSPAN_AVX512)
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  const vf magic = vbroadcast(0x1.8p23f);  // in magic + n the low mantissa bits are n
  const vi whole = (vi)(n + magic) - (vi)magic;
  const vi half = whole >> 1;
  return p * (vf)((half + 127) << 23) * (vf)((whole - half + 127) << 23);
#endif
}

// Nearest integer for |x| < 2^22.
LONGSPAN_INLINE vf vround(vf x) {
#if defined(LONGSPAN_AVX512)
  return (vf)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(LONGSPAN_AVX2)
  return (vf)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const vf magic = vbroadcast(0x1.8p23f);
  vf shifted = x + magic;
#if defined(__x86_64__)
  asm("" : "+x"(shifted));  // keeps the sum from being simplified away
#endif
  return shifted - magic;
#endif
}

namespace detail {
LONGSPAN_INLINE vf poly(vf x, vf p) { return (void)x, p; }
template <class... C>
LONGSPAN_INLINE vf poly(vf x, vf p, float c, C... rest) {
  return poly(x, vfma(p, x, vbroadcast(c)), rest...);
}
}  // namespace detail

// 2^x. Error below 0.9 ulp (1.1 without FMA) over the whole range, subnormal results, inf and NaN
// included.
LONGSPAN_INLINE vf vexp2(vf x) {
  x = vmin(vbroadcast(130.0f), vmax(vbroadcast(-152.0f), x));  // keeps NaN
  const vf n = vround(x);
  const vf p = detail::poly(x - n, vbroadcast(0x1.417ab8p-13f), 0x1.5f094ap-10f, 0x1.3b2dd2p-7f,
                            0x1.c6af7ap-5f, 0x1.ebfbdcp-3f, 0x1.62e430p-1f, 1.0f);
  return vscale(p, n);
}

// 2^x for softmax: x <= 120, relative error 1.6e-7 (degree 5), results below 2^-126 may become 0.
// NaN is kept.
LONGSPAN_INLINE vf vexp2Fast(vf x) {
#if defined(LONGSPAN_AVX512)
  const vf r = (vf)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEG_INF);  // x - floor(x)
  const vf p = detail::poly(r, vbroadcast(0x1.e968b0p-10f), 0x1.277c30p-7f, 0x1.c91c0ep-5f,
                            0x1.ebdb6ap-3f, 0x1.62e4bap-1f, 1.0f);
  return (vf)_mm512_scalef_ps((__m512)p, (__m512)x);  // scales by 2^floor(x)
#else
  const vf magic = vbroadcast(0x1.8p23f);
  vf shifted = x + magic;
#if defined(__x86_64__)
  asm("" : "+x"(shifted));
#endif
  const vf n = shifted - magic;
  const vf p = detail::poly(x - n, vbroadcast(0x1.5bee94p-10f), 0x1.3ce9d2p-7f, 0x1.c6b6b4p-5f,
                            0x1.ebf9bep-3f, 0x1.62e42ap-1f, 1.0f);
  // Unsigned: for what is masked below the exponent wraps around.
  const vf y = (vf)((vu)p + ((vu)shifted << 23));
  return (vf)((vi)y & ~(x < -126.0f));
#endif
}

namespace detail {

// e^x, or e^(x + low) with low a correction of x, as p 2^n; |x| is at most 110. Error of p below
// 0.9 ulp (1.2 where the level has no FMA).
struct Exponential {
  vf p, n;

  explicit LONGSPAN_INLINE Exponential(vf x) { expand(remainder(x)); }
  LONGSPAN_INLINE Exponential(vf x, vf low) { expand(remainder(x) + low); }

  // The power times a factor, rounded once where it is subnormal.
  LONGSPAN_INLINE vf times(vf factor) const { return vscale(p * factor, n); }

 private:
  // x - n ln 2. ln 2 in two parts (Cody and Waite): the first has so few bits that n times it is
  // exact.
  LONGSPAN_INLINE vf remainder(vf x) {
    n = vround(x * 0x1.715476p0f);
    return vfma(n, vbroadcast(0x1.bd0106p-13f), vfma(n, vbroadcast(-0x1.63p-1f), x));
  }
  LONGSPAN_INLINE void expand(vf r) {
    p = poly(r, vbroadcast(0x1.6a4d44p-10f), 0x1.123986p-7f, 0x1.5558b0p-5f, 0x1.555492p-3f,
             0x1.fffffcp-2f, 1.0f, 1.0f);
  }
};

}  // namespace detail

// e^x. Error below 0.9 ulp (1.2 where the level has no FMA).
LONGSPAN_INLINE vf vexp(vf x) {
  const detail::Exponential e(vmin(vbroadcast(90.0f), vmax(vbroadcast(-105.0f), x)));
  return vscale(e.p, e.n);
}

LONGSPAN_INLINE vd vexp(vd x) {
  for (int i = 0; i < kLanesOf<double>; ++i) x[i] = std::exp(x[i]);
  return x;
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
