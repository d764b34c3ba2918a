// Functions of one element and their slopes, as cpp/cpu/pointwise.h has them, in f32. A slope is a
// function of x, or of y = value(x) where `fromOutput` says so. The library's functions are used,
// which are exact to 2 ulp; GPUs of the data centre hide their 10 to 40 instructions behind memory.
#pragma once

#include "cpp/ops/dense/activation.h"
#include "cuda/portable.cuh"

namespace longspan::cuda {
namespace pointwise {

// Bounds where every sigmoid-like factor is exactly 0 or 1, so that infinities give limits, not
// NaN, and NaN stays.
__device__ __forceinline__ float atLeast(float x) { return x < -1e4f ? -1e4f : x; }
__device__ __forceinline__ float clamped(float x) { return x > 1e4f ? 1e4f : atLeast(x); }
// x where x > 0, else 0; NaN stays.
__device__ __forceinline__ float positive(float x) { return x < 0.f ? 0.f : x; }
__device__ __forceinline__ float signOf(float x) { return x > 0.f ? 1.f : x < 0.f ? -1.f : x; }
__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }
__device__ __forceinline__ float normalCdf(float x) { return 0.5f * erfcf(-x * 0.70710678f); }
__device__ __forceinline__ float softplus(float x) { return positive(x) + log1pf(expf(-fabsf(x))); }

#define LONGSPAN_POINTWISE(Name, from, valueOf, slopeOf)                                        \
  struct Name {                                                                                 \
    static constexpr bool fromOutput = from;                                                    \
    static __device__ __forceinline__ float value(float x) { return valueOf; }                  \
    static __device__ __forceinline__ float slope([[maybe_unused]] float x) { return slopeOf; } \
  };

// clang-format off: it takes these products for pointer declarations.
// In the second expression of a function that is `true`, x is the output.
LONGSPAN_POINTWISE(Exp, true, expf(x), x)
LONGSPAN_POINTWISE(Log, false, logf(x), 1.f / x)
LONGSPAN_POINTWISE(Sqrt, true, sqrtf(x), 0.5f / x)
LONGSPAN_POINTWISE(Rsqrt, true, rsqrtf(x), -0.5f * x * x * x)
LONGSPAN_POINTWISE(Abs, false, fabsf(x), signOf(x))
LONGSPAN_POINTWISE(Neg, false, -x, -1.f)
LONGSPAN_POINTWISE(Sin, false, sinf(x), cosf(x))
LONGSPAN_POINTWISE(Cos, false, cosf(x), -sinf(x))
LONGSPAN_POINTWISE(Tanh, true, tanhf(x), (1.f - x) * (1.f + x))
LONGSPAN_POINTWISE(Sigmoid, true, sigmoid(x), x * (1.f - x))
LONGSPAN_POINTWISE(Erf, false, erff(x), 1.12837917f * expf(-x * x))
LONGSPAN_POINTWISE(Square, false, x* x, x + x)
LONGSPAN_POINTWISE(Reciprocal, true, 1.f / x, -x* x)
LONGSPAN_POINTWISE(Softplus, false, softplus(x), sigmoid(x))
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
  static __device__ __forceinline__ float value(float x) { return atLeast(x) * normalCdf(x); }
  static __device__ __forceinline__ float slope(float x) {
    const float t = clamped(x);
    return normalCdf(t) + t * 0.398942280f * expf(-0.5f * t * t);
  }
};

// The same with Phi(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, written as a sigmoid.
struct GeluTanh {
  static constexpr bool fromOutput = false;
  static __device__ __forceinline__ float phi(float x) {
    return sigmoid(x * (1.59576912f + x * x * 0.0713548163f));
  }
  static __device__ __forceinline__ float value(float x) { return atLeast(x) * phi(x); }
  static __device__ __forceinline__ float slope(float x) {
    const float t = clamped(x), p = phi(t);
    return p + t * p * (1.f - p) * (1.59576912f + t * t * 0.214064448f);
  }
};

// x sigmoid(x) (Elfwing et al. 2017).
struct Silu {
  static constexpr bool fromOutput = false;
  static __device__ __forceinline__ float value(float x) { return atLeast(x) * sigmoid(x); }
  static __device__ __forceinline__ float slope(float x) {
    const float t = clamped(x), s = sigmoid(t);
    return s + t * s * (1.f - s);
  }
};

}  // namespace pointwise

namespace pointwise {
template <class Function, int N>
__device__ __forceinline__ void apply(float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = Function::value(x[i]);
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

// Its slope at x; for relu x may be the output.
__device__ __forceinline__ float activationSlope(ops::Activation activation, float x) {
  switch (activation) {
    case ops::Activation::relu:
      return pointwise::Relu::slope(x);
    case ops::Activation::gelu:
      return pointwise::Gelu::slope(x);
    case ops::Activation::geluTanh:
      return pointwise::GeluTanh::slope(x);
    case ops::Activation::silu:
      return pointwise::Silu::slope(x);
    case ops::Activation::reluSquared:
      return pointwise::ReluSquared::slope(x);
    default:
      return 1.f;
  }
}

}  // namespace longspan::cuda
