// Angles of the rotary embedding: of `rotary`, and of keys on their way into a cache.
//
// An angle is kept as a number of turns in f64 and reduced to a fraction of a turn there, so that
// positions up to 2^31 lose nothing; the fraction goes through f32 polynomials. Cost: 30 FLOPs, of
// which 4 in f64, and a power in f64 per frequency.
#pragma once

#include <cmath>

#include "cpp/core/quarter_turn.h"
#include "cpp/ops/dense/rotary.h"
#include "cuda/portable.cuh"

namespace longspan::cuda {

inline constexpr double kTurn = 6.283185307179586476925286766559;

struct Turns {
  const float* frequencies = nullptr;  // or none; a GPU takes no f64, see operator.h
  int64_t step = 0;
  int32_t dim = 0;
  double base = 0;

  Turns() = default;
  explicit Turns(const ops::RotaryTurns& p) : dim(static_cast<int32_t>(p.dim)), base(p.base) {
    if (!p.frequencies.defined()) return;
    frequencies = p.frequencies.data<float>();
    step = p.frequencies.strideOf(0);
  }
  // Turns per position.
  __device__ __forceinline__ double ofPair(int64_t pair) const {
    if (frequencies == nullptr) {
      return pow(base, -2.0 * static_cast<double>(pair) / dim) / kTurn;
    }
    return static_cast<double>(frequencies[pair * step]) / kTurn;
  }
};

__device__ __forceinline__ float2 cosineAndSine(double turn, float sign) {
  const double part = 4 * (turn - rint(turn));  // quarters of a turn, |part| <= 2
  const double quarter = rint(part);
  const auto x = static_cast<float>((part - quarter) * (kTurn / 4));  // |x| <= pi / 4
  float s, c;
  sineAndCosine(x, s, c);
  const int k = static_cast<int>(quarter) & 3;
  const float cosine = (k & 1) != 0 ? s : c, sine = (k & 1) != 0 ? c : s;
  return make_float2(k == 1 || k == 2 ? -cosine : cosine, sign * (k >= 2 ? -sine : sine));
}

// The pair (x, y), turned.
template <class T>
__device__ __forceinline__ void turnPair(float2 angle, T& x, T& y) {
  const float a = toFloat(x), b = toFloat(y);
  x = fromFloat<T>(a * angle.x - b * angle.y);
  y = fromFloat<T>(b * angle.x + a * angle.y);
}

}  // namespace longspan::cuda
