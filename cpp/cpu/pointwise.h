// Functions of one element, with their slopes. `value` and `slope` take a vector of floats or a
// double. A slope is a function of x, or of y = value(x) where `fromOutput` says so: that is what
// backward keeps.
#pragma once

#include "cpp/cpu/vector_math.h"

namespace longspan::cpu::LONGSPAN_LEVEL::pointwise {

// A constant in the precision of V.
template <class V>
LONGSPAN_INLINE V constant(double c) {
  if constexpr (std::is_same_v<V, double>) {
    return c;
  } else {
    return vbroadcast(static_cast<float>(c));
  }
}

// Bounds where every sigmoid-like factor is exactly 0 or 1, so that infinities give limits, not
// NaN.
template <class V>
LONGSPAN_INLINE V atLeast(V x) {
  return vmax(V{} - 1e4f, x);
}
template <class V>
LONGSPAN_INLINE V clamped(V x) {
  return vmin(V{} + 1e4f, atLeast(x));
}
// x where x > 0, else 0; NaN stays.
template <class V>
LONGSPAN_INLINE V positive(V x) {
  return vmax(V{}, x);
}
template <class V>
LONGSPAN_INLINE V signOf(V x) {
  const V one = V{} + 1.0f;
  return vselect(x > 0.0f, one, vselect(x < 0.0f, -one, x));
}

#define LONGSPAN_POINTWISE(Name, from, valueOf, slopeOf)   \
  struct Name {                                            \
    static constexpr bool fromOutput = from;               \
    template <class V>                                     \
    static LONGSPAN_INLINE V value([[maybe_unused]] V x) { \
      return valueOf;                                      \
    }                                                      \
    template <class V>                                     \
    static LONGSPAN_INLINE V slope([[maybe_unused]] V x) { \
      return slopeOf;                                      \
    }                                                      \
  };

// clang-format off: it takes these products for pointer declarations.
// In the second expression of a function that is `true`, x is the output.
LONGSPAN_POINTWISE(Exp, true, vexp(x), x)
LONGSPAN_POINTWISE(Log, false, vlog(x), 1.0f / x)
LONGSPAN_POINTWISE(Sqrt, true, vsqrt(x), 0.5f / x)
LONGSPAN_POINTWISE(Rsqrt, true, 1.0f / vsqrt(x), -0.5f * x * x * x)
LONGSPAN_POINTWISE(Abs, false, vabs(x), signOf(x))
LONGSPAN_POINTWISE(Neg, false, -x, V{} - 1.0f)
LONGSPAN_POINTWISE(Sin, false, vsin(x), vcos(x))
LONGSPAN_POINTWISE(Cos, false, vcos(x), -vsin(x))
LONGSPAN_POINTWISE(Tanh, true, vtanh(x), (1.0f - x) * (1.0f + x))
LONGSPAN_POINTWISE(Sigmoid, true, vsigmoid(x), x * (1.0f - x))
LONGSPAN_POINTWISE(Erf, false, verf(x), constant<V>(1.1283791670955126) * vexp(-x * x))
LONGSPAN_POINTWISE(Square, false, x* x, x + x)
LONGSPAN_POINTWISE(Reciprocal, true, 1.0f / x, -x* x)
LONGSPAN_POINTWISE(Softplus, false, vsoftplus(x), vsigmoid(x))
LONGSPAN_POINTWISE(Relu, true, positive(x), vselect(x > 0.0f, V{} + 1.0f, V{}))
LONGSPAN_POINTWISE(ReluSquared, false, positive(x) * positive(x), 2.0f * positive(x))
LONGSPAN_POINTWISE(Floor, false, vfloor(x), V{})
LONGSPAN_POINTWISE(Round, false, vroundEven(x), V{})
LONGSPAN_POINTWISE(Sign, false, signOf(x), V{})
// clang-format on
#undef LONGSPAN_POINTWISE

// x Phi(x), Phi the standard normal distribution function (Hendrycks and Gimpel 2016): relu(x) less
// |x| Phi(-|x|).
struct Gelu {
  static constexpr bool fromOutput = false;
  template <class V>
  static LONGSPAN_INLINE V value(V x) {
    const NormalTail<V> beyond = vnormalTail(x);
    return vfma(-beyond.distance, beyond.tail, positive(x));
  }
  template <class V>
  static LONGSPAN_INLINE V slope(V x) {
    const NormalTail<V> beyond = vnormalTail(x);
    const V negative = vfma(-beyond.distance, beyond.density, beyond.tail);  // of -|x|
    return vselect(x < 0.0f, negative, 1.0f - negative);
  }
};

// The same with Phi(x) = (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, written as a sigmoid.
struct GeluTanh {
  static constexpr bool fromOutput = false;
  template <class V>
  static LONGSPAN_INLINE V phi(V x) {
    return vsigmoid(x *
                    (constant<V>(1.5957691216057308) + x * x * constant<V>(0.07135481627260025)));
  }
  template <class V>
  static LONGSPAN_INLINE V value(V x) {
    return atLeast(x) * phi(x);
  }
  template <class V>
  static LONGSPAN_INLINE V slope(V x) {
    const V t = clamped(x), p = phi(t);
    return p + t * p * (1.0f - p) *
                   (constant<V>(1.5957691216057308) + t * t * constant<V>(0.21406444881780073));
  }
};

// x sigmoid(x) (Elfwing et al. 2017).
struct Silu {
  static constexpr bool fromOutput = false;
  template <class V>
  static LONGSPAN_INLINE V value(V x) {
    return atLeast(x) * vsigmoid(x);
  }
  template <class V>
  static LONGSPAN_INLINE V slope(V x) {
    const V t = clamped(x), s = vsigmoid(t);
    return s + t * s * (1.0f - s);
  }
};

}  // namespace longspan::cpu::LONGSPAN_LEVEL::pointwise
