// Rotary embedding, row by row: of `rotary`, and of keys on their way into a cache.
//
// An angle is kept as a number of turns in f64 and reduced to a fraction of a turn there, so that
// positions up to 2^31 lose nothing; the fraction goes through f32 polynomials. f64 uses the C
// library.
#pragma once

#include <cmath>

#include "cpp/core/quarter_turn.h"
#include "cpp/cpu/row_math.h"
#include "cpp/cpu/rows.h"
#include "cpp/ops/dense/rotary.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

inline constexpr double kTurn = 6.283185307179586476925286766559;

// Cosine and sine of position * frequency for a row of pairs; sign -1 turns back.
inline void angles(double position, const double* turns, int64_t half, float sign, float* cosines,
                   float* sines) {
  for (int64_t i = 0; i < half; ++i) {
    const double turn = position * turns[i];
    const double part = 4 * (turn - std::rint(turn));  // quarters of a turn, |part| <= 2
    const double quarter = std::rint(part);
    const auto x = static_cast<float>((part - quarter) * (kTurn / 4));  // |x| <= pi / 4
    float s, c;
    sineAndCosine(x, s, c);
    const auto k = static_cast<int32_t>(quarter) & 3;
    const float cosine = (k & 1) != 0 ? s : c, sine = (k & 1) != 0 ? c : s;
    cosines[i] = k == 1 || k == 2 ? -cosine : cosine;
    sines[i] = sign * (k >= 2 ? -sine : sine);
  }
}

inline void angles(double position, const double* turns, int64_t half, double sign, double* cosines,
                   double* sines) {
  for (int64_t i = 0; i < half; ++i) {
    const double turn = position * turns[i];
    const double angle = (turn - std::rint(turn)) * kTurn;
    cosines[i] = std::cos(angle);
    sines[i] = sign * std::sin(angle);
  }
}

inline void frequencyTurns(const ops::RotaryTurns& p, double* turns) {
  const int64_t half = p.dim / 2;
  if (p.frequencies.defined()) {
    loadRow(p.frequencies, 0, p.frequencies.strideOf(0), half, turns);
    for (int64_t i = 0; i < half; ++i) turns[i] /= kTurn;
    return;
  }
  for (int64_t i = 0; i < half; ++i) {
    turns[i] = std::pow(p.base, -2.0 * static_cast<double>(i) / static_cast<double>(p.dim)) / kTurn;
  }
}

template <class A>
void rotateRow(const A* x, A* y, const A* cosine, const A* sine, int64_t half, bool interleaved) {
  if (interleaved) {
    for (int64_t i = 0; i < half; ++i) {
      const A a = x[2 * i], b = x[2 * i + 1];
      y[2 * i] = a * cosine[i] - b * sine[i];
      y[2 * i + 1] = b * cosine[i] + a * sine[i];
    }
    return;
  }
  const A* z = x + half;
  mapRow<A>(half, y, [&](auto get) { return get(x) * get(cosine) - get(z) * get(sine); });
  mapRow<A>(half, y + half, [&](auto get) { return get(z) * get(cosine) + get(x) * get(sine); });
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
