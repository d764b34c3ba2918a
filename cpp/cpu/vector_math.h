// Elementary functions on vectors, beside the exponentials of exponential.h. Polynomials are
// weighted minimax fits of relative error. Each has a scalar f64 form of the same name, for tests
// and gradient checks, so that templates over the vector type read alike. Errors are given in ulp
// of f32, with FMA.
#pragma once

#include <cmath>

#include "cpp/cpu/exponential.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

// Arithmetic of kernels written once for vf and for double.
LONGSPAN_INLINE double vfma(double a, double b, double c) { return a * b + c; }
LONGSPAN_INLINE double vselect(bool mask, double a, double b) { return mask ? a : b; }
LONGSPAN_INLINE double vmax(double a, double b) { return a > b ? a : b; }
LONGSPAN_INLINE double vmin(double a, double b) { return a < b ? a : b; }
LONGSPAN_INLINE double vabs(double x) { return std::fabs(x); }
LONGSPAN_INLINE double vsqrt(double x) { return std::sqrt(x); }
LONGSPAN_INLINE double vexp(double x) { return std::exp(x); }
LONGSPAN_INLINE double vlog(double x) { return std::log(x); }
LONGSPAN_INLINE double vlog1p(double x) { return std::log1p(x); }
LONGSPAN_INLINE double vtanh(double x) { return std::tanh(x); }
LONGSPAN_INLINE double verf(double x) { return std::erf(x); }
LONGSPAN_INLINE double vsin(double x) { return std::sin(x); }
LONGSPAN_INLINE double vcos(double x) { return std::cos(x); }
LONGSPAN_INLINE double vfloor(double x) { return std::floor(x); }
LONGSPAN_INLINE double vroundEven(double x) { return std::nearbyint(x); }

// |x| with the sign of s.
LONGSPAN_INLINE vf vcopysign(vf x, vf s) {
  return (vf)(((vi)x & 0x7fffffff) | ((vi)s & static_cast<int32_t>(0x80000000u)));
}

// Nearest integer, ties to even, for all x.
LONGSPAN_INLINE vf vroundEven(vf x) {
  const vf a = vabs(x);
  vf shifted = a + 0x1p23f;  // no fraction is left
#if defined(__x86_64__)
  asm("" : "+x"(shifted));  // keeps the sum from being simplified away
#endif
  return vselect(a < 0x1p23f, vcopysign(shifted - 0x1p23f, x), x);
}

LONGSPAN_INLINE vf vfloor(vf x) {
  const vf whole = vroundEven(x);
  return vselect(whole > x, whole - 1.0f, whole);
}

// Natural logarithm, 1 ulp. x = 2^n m with m in [sqrt 1/2, sqrt 2); log m = f - f^2/2 + f^3 P(f), f
// = m - 1.
LONGSPAN_INLINE vf vlog(vf x) {
  const vi tiny = x < 0x1p-126f;
  const vf normal = vselect(tiny, x * 0x1p23f, x);
  const vi bits = (vi)normal - 0x3f3504f3;  // sqrt 1/2
  const vi exponent = (bits >> 23) - (tiny & 23);
  const vf m = (vf)((bits & 0x007fffff) + 0x3f3504f3);
  const vf n = __builtin_convertvector(exponent, vf);
  const vf f = m - 1.0f;
  const vf p = detail::poly(f, vbroadcast(0x1.145724p-4f), -0x1.de3bf2p-4f, 0x1.e6f094p-4f,
                            -0x1.fc2210p-4f, 0x1.233766p-3f, -0x1.555c4ep-3f, 0x1.99a4b6p-3f,
                            -0x1.000006p-2f, 0x1.555548p-2f);
  const vf square = f * f;
  // ln 2 in two parts, the first exact when multiplied by n.
  vf low = vfma(n, vbroadcast(-0x1.bd0106p-13f), square * f * p);
  low = vfma(square, vbroadcast(-0.5f), low);
  vf y = vfma(n, vbroadcast(0x1.63p-1f), f + low);
  y = vselect(x == __builtin_inff(), x, y);
  y = vselect(x == 0.0f, vbroadcast(-__builtin_inff()), y);
  return vselect((x < 0.0f) | (x != x), vbroadcast(__builtin_nanf("")), y);
}

// log(1 + x), 2 ulp: the rounding error of 1 + x is put back to first order.
LONGSPAN_INLINE vf vlog1p(vf x) {
  const vf u = x + 1.0f;
  const vf lost = x - (u - 1.0f);
  const vf y = vlog(u) + lost / u;
  return vselect(u == __builtin_inff(), u, vselect(u == 0.0f, vlog(u), y));
}

// 2 ulp: a polynomial near 0, else 1 - 2 / (e^2|x| + 1).
LONGSPAN_INLINE vf vtanh(vf x) {
  const vf a = vabs(x);
  const vf square = x * x;
  const vf p = detail::poly(square, vbroadcast(-0x1.75624cp-8f), 0x1.520b30p-6f, -0x1.b83856p-5f,
                            0x1.11070ap-3f, -0x1.555532p-2f);
  const vf small = vfma(x * square, p, x);
  const vf large = 1.0f - 2.0f / (vexp(a + a) + 1.0f);
  return vselect(a < 0.625f, small, vcopysign(large, x));
}

namespace detail {

// x^2 as high + low, since e^ magnifies a rounded square's error; |x| at most 16.
struct Square {
  vf high, low;

  explicit LONGSPAN_INLINE Square(vf x) {
#if defined(LONGSPAN_AVX512) || defined(LONGSPAN_AVX2)
    high = x * x;
    low = vfma(x, x, -high);
#else
    const vf head = (vf)((vi)x & static_cast<int32_t>(0xfffff000u));
    high = head * head;  // exact
    low = (x - head) * (x + head);
#endif
  }
};

// erfc(t), t >= 0, is e^(-t^2) v P(v) with v = 1 / (1 + p t) and p = 0.2983107 (the form of
// Hastings 1955); P is a weighted minimax fit in v - 5/8. Relative error 4.5e-7.
struct Erfc {
  vf value, gaussian;  // gaussian = e^(-t^2)

  // pt1 = 1 + p t; minus t^2 is high + low.
  LONGSPAN_INLINE Erfc(vf pt1, vf high, vf low) {
    const vf v = 1.0f / pt1;
    const vf factor = poly(v - 0.625f, vbroadcast(-0x1.1948e0p-3f), -0x1.3e8512p-3f, 0x1.d155dep-3f,
                           0x1.c33030p-1f, 0x1.6a2b50p+0f, 0x1.88f42cp+0f, 0x1.411ddep+0f,
                           0x1.9b0000p-1f, 0x1.a0779ep-2f);
    const Exponential e(high, low);
    value = e.times(factor * v);
    gaussian = vscale(e.p, e.n);
  }
};

}  // namespace detail

// 2.5 ulp.
LONGSPAN_INLINE vf verf(vf x) {
  const vf a = vabs(x);
  const vf p = detail::poly(x * x, vbroadcast(-0x1.61dfd2p-11f), 0x1.4f2cc0p-8f, -0x1.b7a89cp-6f,
                            0x1.ce2ac8p-4f, -0x1.81273ap-2f, 0x1.06eba8p-3f);
  const vf t = vmin(vbroadcast(10.5f), a);  // erfc is below all subnormals; keeps NaN
  const detail::Square square(t);
  const detail::Erfc erfc(vfma(t, vbroadcast(0.29831067f), vbroadcast(1.0f)), -square.high,
                          -square.low);
  return vselect(a < 0.75f, vfma(x, p, x), vcopysign(1.0f - erfc.value, x));
}

// The standard normal distribution beyond |x|: its tail, erfc(|x| / sqrt 2) / 2, and its density.
// distance is |x| as far as they are not 0. Relative error 4.5e-7.
template <class V>
struct NormalTail {
  V distance, tail, density;
};
LONGSPAN_INLINE NormalTail<vf> vnormalTail(vf x) {
  const vf a = vmin(vbroadcast(14.8f), vabs(x));
  const detail::Square square(a);
  const detail::Erfc erfc(vfma(a, vbroadcast(0.2109375f), vbroadcast(1.0f)), -0.5f * square.high,
                          -0.5f * square.low);
  return {a, 0.5f * erfc.value, 0.39894228f * erfc.gaussian};
}
LONGSPAN_INLINE NormalTail<double> vnormalTail(double x) {
  const double a = vmin(40.0, vabs(x));
  return {a, 0.5 * std::erfc(a * 0.70710678118654752440),
          0.39894228040143267794 * std::exp(-0.5 * a * a)};
}

namespace detail {

// sin(x + quarter turns) for |x| below 2^15: x - q pi/2 in three parts (Cody and Waite), then the
// polynomial that the quadrant asks for. Larger arguments take the scalar library.
template <class F>
LONGSPAN_INLINE vf sinShifted(vf x, int quarter, F scalar) {
  const vf q = vround(x * 0.63661977f);
  vf r = vfma(q, vbroadcast(-0x1.92p+0f), x);
  r = vfma(q, vbroadcast(-0x1.fb4p-12f), r);
  r = vfma(q, vbroadcast(-0x1.4442d2p-24f), r);
  const vf square = r * r;
  const vf s = vfma(r * square,
                    poly(square, vbroadcast(-0x1.994064p-13f), 0x1.110730p-7f, -0x1.555546p-3f), r);
  const vf c = vfma(square * square,
                    poly(square, vbroadcast(0x1.99e86ap-16f), -0x1.6c0c28p-10f, 0x1.55554ap-5f),
                    vfma(square, vbroadcast(-0.5f), vbroadcast(1.0f)));
  const vi quadrant = __builtin_convertvector(q, vi) + quarter;
  const vf y = vselect((quadrant & 1) != 0, c, s);
  vf result = (vf)((vi)y ^ ((quadrant & 2) << 30));
  const vi far = ~(vabs(x) < 0x1p12f);
  if (vany(far)) {
    for (int i = 0; i < kLanes; ++i) {
      if (far[i]) result[i] = static_cast<float>(scalar(static_cast<double>(x[i])));
    }
  }
  return result;
}

}  // namespace detail

// Absolute error 1e-7.
LONGSPAN_INLINE vf vsin(vf x) {
  return detail::sinShifted(x, 0, [](double t) { return std::sin(t); });
}
LONGSPAN_INLINE vf vcos(vf x) {
  return detail::sinShifted(x, 1, [](double t) { return std::cos(t); });
}

// 1 / (1 + e^-x), 2 ulp.
template <class V>
LONGSPAN_INLINE V vsigmoid(V x) {
  return 1.0f / (1.0f + vexp(-x));
}

// log(1 + e^x) without overflow.
template <class V>
LONGSPAN_INLINE V vsoftplus(V x) {
  return vmax(V{}, x) + vlog1p(vexp(-vabs(x)));
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
