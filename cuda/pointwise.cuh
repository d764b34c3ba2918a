// Functions of one element and their slopes, as cpp/cpu/pointwise.h has them, in f32. A slope is a
// function of x, or of y = value(x) where `fromOutput` says so.
//
// What is rounded to T afterwards decides how exact a function is: for f32 to a few ulp, for 16-bit
// types to 2^-14 of the value, a quarter of what rounding to f16 loses or less. Of slopes that
// cancel that holds for their terms; sigmoids and 16-bit exponentials below 2^-126 become 0. On an
// H200 a 16-bit element that is read and written leaves 29 issue slots at copy speed, an f32
// element 58. Instructions of an element in SASS for sm_90a, counted, with widening, rounding and
// the store: relu 6, silu 10, tanh 15, gelu 20 in 16 bits (53 with the library's erfcf) and 30 in
// f32 (52).
#pragma once

#include "cpp/ops/dense/activation.h"
#include "cuda/ptx.cuh"

namespace longspan::cuda {
namespace pointwise {

template <class T>
inline constexpr bool kShort = sizeof(T) == 2;  // what is rounded to T may be less exact

// Bounds where every sigmoid-like factor is exactly 0 or 1, so that infinities give limits, not
// NaN, and NaN stays.
__device__ __forceinline__ float atLeast(float x) { return x < -1e4f ? -1e4f : x; }
__device__ __forceinline__ float clamped(float x) { return x > 1e4f ? 1e4f : atLeast(x); }
// x where x > 0, else 0; NaN stays.
__device__ __forceinline__ float positive(float x) { return x < 0.f ? 0.f : x; }
__device__ __forceinline__ float signOf(float x) { return x > 0.f ? 1.f : x < 0.f ? -1.f : x; }

template <class T>
__device__ __forceinline__ float exponential(float x) {
  if constexpr (kShort<T>) {
    return ptx::exp2Approx(x * 1.44269504f);
  } else {
    return expf(x);
  }
}
template <class T>
__device__ __forceinline__ float sigmoid(float x) {
  return ptx::reciprocalApprox(1.f + exponential<T>(-x));
}

// exp(-u^2 / 2) and, times it, the upper tail of the standard normal distribution beyond u >= 0.
struct Tail {
  float bell, beyond;
};
// The tail is exp(-u^2 / 2) t p(t), t = 1 / (1 + 0.3 u), with the polynomial p that has the least
// relative error over [0, 14.5]: 4e-9 with degree 9; 6e-5 with degree 4 and 0.25 u. In f32 the
// exponent, of up to 100, is kept in two parts: what squaring and scaling lose of it is put back by
// a factor near 1. The form is that of Hastings (1955); the coefficients were fitted for this file.
template <class T>
__device__ __forceinline__ Tail tailBeyond(float u) {
  const float t = ptx::reciprocalApprox(fmaf(kShort<T> ? 0.25f : 0.3f, u, 1.f));
  if constexpr (kShort<T>) {
    const float bell = ptx::exp2Approx(u * u * -0.721347520f);
    float p = fmaf(t, 0.240084678f, -0.100222379f);
    p = fmaf(t, p, 0.177268982f);
    p = fmaf(t, p, 0.0816295594f);
    p = fmaf(t, p, 0.101210833f);
    return {bell, bell * (t * p)};
  } else {
    constexpr float kScale = -0.721347511f, kScaleRest = -9.62981484e-9f;
    const float square = u * u, exponent = square * kScale;
    float rest = fmaf(square, kScale, -exponent);
    rest = fmaf(square, kScaleRest, rest);
    rest = fmaf(fmaf(u, u, -square), kScale, rest);
    float bell = ptx::exp2Approx(exponent);
    bell = fmaf(bell, rest * 0.693147181f, bell);
    float p = fmaf(t, -0.0206235126f, 0.112435848f);
    p = fmaf(t, p, -0.228214145f);
    p = fmaf(t, p, 0.191785261f);
    p = fmaf(t, p, -0.0794240907f);
    p = fmaf(t, p, 0.0961571485f);
    p = fmaf(t, p, 0.0783895403f);
    p = fmaf(t, p, 0.110235445f);
    p = fmaf(t, p, 0.119571812f);
    p = fmaf(t, p, 0.119686693f);
    return {bell, bell * (t * p)};
  }
}
// |x| as far as the tail is not 0; NaN stays.
__device__ __forceinline__ float distance(float x) {
  const float u = fabsf(x);
  return u > 16.f ? 16.f : u;
}

template <class T>
__device__ __forceinline__ float tanhOf(float x) {
  if constexpr (kShort<T>) {
    const float square = x * x;
    const float near = fmaf(x * square, fmaf(square, 0.133333333f, -0.333333333f), x);
    const float far =
        fmaf(-2.f, ptx::reciprocalApprox(1.f + ptx::exp2Approx(x * 2.88539008f)), 1.f);
    return square < 0.0625f ? near : far;
  } else {
    return tanhf(x);
  }
}
template <class T>
__device__ __forceinline__ float erfOf(float x) {
  if constexpr (kShort<T>) {
    const float square = x * x;
    const float near = x * fmaf(square, fmaf(square, 0.112837917f, -0.376126389f), 1.12837917f);
    const float far = fmaf(-2.f, tailBeyond<T>(distance(x * 1.41421356f)).beyond, 1.f);
    return square < 0.09f ? near : copysignf(far, x);
  } else {
    return erff(x);
  }
}
template <class T>
__device__ __forceinline__ float softplus(float x) {
  const float e = exponential<T>(-fabsf(x));
  if constexpr (kShort<T>) {
    const float near = e * fmaf(e, fmaf(e, 0.333333333f, -0.5f), 1.f);
    const float far = ptx::log2Approx(1.f + e) * 0.693147181f;
    return positive(x) + (e < 0.03f ? near : far);
  } else {
    return positive(x) + log1pf(e);
  }
}

#define LONGSPAN_POINTWISE(Name, from, valueOf, slopeOf)                      \
  struct Name {                                                               \
    static constexpr bool fromOutput = from;                                  \
    template <class T>                                                        \
    static __device__ __forceinline__ float value(float x) {                  \
      return valueOf;                                                         \
    }                                                                         \
    template <class T>                                                        \
    static __device__ __forceinline__ float slope([[maybe_unused]] float x) { \
      return slopeOf;                                                         \
    }                                                                         \
  };

// clang-format off: it takes these products for pointer declarations.
// In the second expression of a function that is `true`, x is the output.
LONGSPAN_POINTWISE(Exp, true, exponential<T>(x), x)
LONGSPAN_POINTWISE(Log, false, logf(x), 1.f / x)
LONGSPAN_POINTWISE(Sqrt, true, sqrtf(x), 0.5f / x)
LONGSPAN_POINTWISE(Rsqrt, true, rsqrtf(x), -0.5f * x * x * x)
LONGSPAN_POINTWISE(Abs, false, fabsf(x), signOf(x))
LONGSPAN_POINTWISE(Neg, false, -x, -1.f)
LONGSPAN_POINTWISE(Sin, false, sinf(x), cosf(x))
LONGSPAN_POINTWISE(Cos, false, cosf(x), -sinf(x))
LONGSPAN_POINTWISE(Tanh, true, tanhOf<T>(x), (1.f - x) * (1.f + x))
LONGSPAN_POINTWISE(Sigmoid, true, sigmoid<T>(x), x * (1.f - x))
LONGSPAN_POINTWISE(Erf, false, erfOf<T>(x), 1.12837917f * exponential<T>(-x * x))
LONGSPAN_POINTWISE(Square, false, x* x, x + x)
LONGSPAN_POINTWISE(Reciprocal, true, 1.f / x, -x* x)
LONGSPAN_POINTWISE(Softplus, false, softplus<T>(x), sigmoid<T>(x))
LONGSPAN_POINTWISE(Relu, true, positive(x), x > 0.f ? 1.f : 0.f)
LONGSPAN_POINTWISE(ReluSquared, false, positive(x) * positive(x), 2.f * positive(x))
LONGSPAN_POINTWISE(Floor, false, floorf(x), 0.f)
LONGSPAN_POINTWISE(Round, false, rintf(x), 0.f)
LONGSPAN_POINTWISE(Sign, false, signOf(x), 0.f)
// clang-format on
#undef LONGSPAN_POINTWISE

// x Phi(x), Phi the standard normal distribution function (Hendrycks and Gimpel 2016).
struct Gelu {
  static constexpr bool fromOutput = false;
  // Phi(x) is the tail beyond |x|, or 1 less it: either way x Phi(x) = max(x, 0) - |x| tail.
  template <class T>
  static __device__ __forceinline__ float value(float x) {
    const float u = distance(x);
    return fmaf(-u, tailBeyond<T>(u).beyond, positive(x));
  }
  template <class T>
  static __device__ __forceinline__ float slope(float x) {
    const float u = distance(x);
    const Tail tail = tailBeyond<T>(u);
    const float along = u * 0.398942280f * tail.bell;  // |x| times the density
    return x < 0.f ? tail.beyond - along : 1.f - tail.beyond + along;
  }
};

// The same with Phi(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, written as a sigmoid.
struct GeluTanh {
  static constexpr bool fromOutput = false;
  template <class T>
  static __device__ __forceinline__ float phi(float x) {
    return sigmoid<T>(x * (1.59576912f + x * x * 0.0713548163f));
  }
  template <class T>
  static __device__ __forceinline__ float value(float x) {
    return atLeast(x) * phi<T>(x);
  }
  template <class T>
  static __device__ __forceinline__ float slope(float x) {
    const float t = clamped(x), p = phi<T>(t);
    return p + t * p * (1.f - p) * (1.59576912f + t * t * 0.214064448f);
  }
};

// x sigmoid(x) (Elfwing et al. 2017).
struct Silu {
  static constexpr bool fromOutput = false;
  template <class T>
  static __device__ __forceinline__ float value(float x) {
    return atLeast(x) * sigmoid<T>(x);
  }
  template <class T>
  static __device__ __forceinline__ float slope(float x) {
    const float t = clamped(x), s = sigmoid<T>(t);
    return s + t * s * (1.f - s);
  }
};

}  // namespace pointwise

namespace pointwise {
template <class Function, int N>
__device__ __forceinline__ void apply(float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = Function::template value<float>(x[i]);
}
template <class Function, class T, int N>
__device__ __forceinline__ void applySlope(float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = Function::template slope<T>(x[i]);
}
}  // namespace pointwise

// x becomes activation(x), chosen at run time by a branch that all threads take alike.
template <int N>
__device__ __forceinline__ void activate(ops::Activation activation, float (&x)[N]) {
  switch (activation) {
    case ops::Activation::relu:
      return pointwise::apply<pointwise::Relu>(x);
    case ops::Activation::gelu:
      return pointwise::apply<pointwise::Gelu>(x);
    case ops::Activation::geluTanh:
      return pointwise::apply<pointwise::GeluTanh>(x);
    case ops::Activation::silu:
      return pointwise::apply<pointwise::Silu>(x);
    case ops::Activation::reluSquared:
      return pointwise::apply<pointwise::ReluSquared>(x);
    default:
      return;
  }
}
__device__ __forceinline__ float activated(ops::Activation activation, float x) {
  float one[1] = {x};
  activate(activation, one);
  return one[0];
}

// x becomes the slope of activation at x, as exact as T asks; for relu x may be the output.
template <class T, int N>
__device__ __forceinline__ void slopes(ops::Activation activation, float (&x)[N]) {
  switch (activation) {
    case ops::Activation::relu:
      return pointwise::applySlope<pointwise::Relu, T>(x);
    case ops::Activation::gelu:
      return pointwise::applySlope<pointwise::Gelu, T>(x);
    case ops::Activation::geluTanh:
      return pointwise::applySlope<pointwise::GeluTanh, T>(x);
    case ops::Activation::silu:
      return pointwise::applySlope<pointwise::Silu, T>(x);
    case ops::Activation::reluSquared:
      return pointwise::applySlope<pointwise::ReluSquared, T>(x);
    default:
#pragma unroll
      for (float& one : x) one = 1.f;
  }
}

}  // namespace longspan::cuda
