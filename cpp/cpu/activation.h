// The functions behind ops::Activation, chosen at run time.
#pragma once

#include "cpp/cpu/pointwise.h"
#include "cpp/ops/dense/activation.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

// Calls f(Functor{}) for every activation but none.
template <class F>
LONGSPAN_INLINE void withActivation(ops::Activation activation, F&& f) {
  switch (activation) {
    case ops::Activation::none:
      break;
    case ops::Activation::relu:
      f(pointwise::Relu{});
      break;
    case ops::Activation::gelu:
      f(pointwise::Gelu{});
      break;
    case ops::Activation::geluTanh:
      f(pointwise::GeluTanh{});
      break;
    case ops::Activation::silu:
      f(pointwise::Silu{});
      break;
    case ops::Activation::reluSquared:
      f(pointwise::ReluSquared{});
      break;
  }
}

// x[i] = f(x[i]), i < n. x is readable and writable up to whole vectors.
__attribute__((noinline)) inline void activate(ops::Activation activation, float* x, int64_t n) {
  withActivation(activation, [&](auto f) {
    for (int64_t i = 0; i < n; i += kLanes) vstore(x + i, f.value(vload(x + i)));
  });
}
__attribute__((noinline)) inline void activate(ops::Activation activation, double* x, int64_t n) {
  withActivation(activation, [&](auto f) {
    for (int64_t i = 0; i < n; ++i) x[i] = f.value(x[i]);
  });
}

// g[i] *= f'(x[i]), or f' as a function of y = f(x) where the functor says so. As above.
__attribute__((noinline)) inline void timesSlope(ops::Activation activation, const float* x,
                                                 float* g, int64_t n) {
  withActivation(activation, [&](auto f) {
    for (int64_t i = 0; i < n; i += kLanes) vstore(g + i, vload(g + i) * f.slope(vload(x + i)));
  });
}
__attribute__((noinline)) inline void timesSlope(ops::Activation activation, const double* x,
                                                 double* g, int64_t n) {
  withActivation(activation, [&](auto f) {
    for (int64_t i = 0; i < n; ++i) g[i] *= f.slope(x[i]);
  });
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
