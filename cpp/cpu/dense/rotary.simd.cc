// Rotary position embedding (Su et al. 2021). First a table of cosines and sines, then the
// rotation.
//
// An angle is kept as a number of turns in f64 and reduced to a fraction of a turn there, so that
// positions up to 2^31 lose nothing; the fraction goes through f32 polynomials. f64 uses the C
// library. Cost: P positions of dim / 2 pairs make the table; x is read and written once, 6 FLOPs
// per pair.
#include "cpp/ops/dense/rotary.h"

#include <algorithm>
#include <cmath>

#include "cpp/cpu/row_math.h"
#include "cpp/cpu/rows.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr double kTurn = 6.283185307179586476925286766559;

// Cosine and sine of position * frequency for a row of pairs; sign -1 turns back.
void angles(double position, const double* turns, int64_t half, float sign, float* cosines,
            float* sines) {
  for (int64_t i = 0; i < half; ++i) {
    const double turn = position * turns[i];
    const double part = 4 * (turn - std::rint(turn));  // quarters of a turn, |part| <= 2
    const double quarter = std::rint(part);
    const auto x = static_cast<float>((part - quarter) * (kTurn / 4));  // |x| <= pi / 4
    const float q = x * x;
    const float s =
        x + x * (q * (((q * (1.0f / 362880) - 1.0f / 5040) * q + 1.0f / 120) * q - 1.0f / 6));
    const float c =
        1.0f +
        q * ((((q * (-1.0f / 3628800) + 1.0f / 40320) * q - 1.0f / 720) * q + 1.0f / 24) * q -
             0.5f);
    const auto k = static_cast<int32_t>(quarter) & 3;
    const float cosine = (k & 1) != 0 ? s : c, sine = (k & 1) != 0 ? c : s;
    cosines[i] = k == 1 || k == 2 ? -cosine : cosine;
    sines[i] = sign * (k >= 2 ? -sine : sine);
  }
}

void angles(double position, const double* turns, int64_t half, double sign, double* cosines,
            double* sines) {
  for (int64_t i = 0; i < half; ++i) {
    const double turn = position * turns[i];
    const double angle = (turn - std::rint(turn)) * kTurn;
    cosines[i] = std::cos(angle);
    sines[i] = sign * std::sin(angle);
  }
}

void frequencyTurns(const ops::Rotary& p, double* turns) {
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

template <class A>
void run(const ops::Rotary& p, Context& context) {
  const int64_t half = p.dim / 2, n = p.x.shape[p.axis], channels = p.x.dim(-1);
  const bool perBatch = p.positions.defined() && p.positions.rank == 2;
  const int64_t places = perBatch ? p.positions.numel() : n;
  auto* turns = reinterpret_cast<double*>(context.workspace.data);
  A* table = reinterpret_cast<A*>(turns + half);  // (places, [cosine, sine], half)
  A* scratch = table + 2 * half * places;
  if (p.x.numel() == 0) return;

  frequencyTurns(p, turns);
  const int64_t offset = p.offset.defined() ? *p.offset.data<int32_t>() : 0;
  const A sign = p.inverse ? A(-1) : A(1);
  context.pool.forRange(places, std::max<int64_t>(1, 4096 / std::max<int64_t>(half, 1)),
                        [&](int64_t begin, int64_t end) {
                          for (int64_t i = begin; i < end; ++i) {
                            int64_t position = i;
                            if (p.positions.defined()) {
                              const auto& t = p.positions;
                              const int64_t row = perBatch ? i / n * t.stride[0] : 0;
                              position = t.data<int32_t>()[row + i % n * t.strideOf(-1)];
                            }
                            A* to = table + 2 * half * i;
                            angles(static_cast<double>(position + offset), turns, half, sign, to,
                                   to + half);
                          }
                        });

  const Rows x(p.x);
  int64_t inner = 1, batch = 1;  // rows per position, rows per entry of axis 0
  for (int i = static_cast<int>(p.axis) + 1; i < p.x.rank - 1; ++i) inner *= p.x.shape[i];
  for (int i = 1; i < p.x.rank - 1; ++i) batch *= p.x.shape[i];
  const int64_t group = std::max<int64_t>(1, 8192 / channels);
  context.pool.forEach((x.count + group - 1) / group, [&](int64_t item, int thread) {
    A* own = scratch + 2 * channels * thread;
    for (int64_t row = item * group; row < std::min(x.count, (item + 1) * group); ++row) {
      const A* from = rowOf(p.x, x.at(row), x.step, channels, own);
      const int64_t place = row / inner % n + (perBatch ? row / batch * n : 0);
      const A* angle = table + 2 * half * place;
      A* to = p.y.dtype == dtypeOf<A>() ? p.y.data<A>() + row * channels : own + channels;
      rotateRow(from, to, angle, angle + half, half, p.interleaved);
      std::copy(from + p.dim, from + channels, to + p.dim);
      if (to == own + channels) storeRow(p.y, row * channels, 1, channels, to);
    }
  });
}

}  // namespace

Status rotary(const ops::Rotary& p, Context& context) {
  withAccumulator(p.x.dtype, [&](auto zero) { run<decltype(zero)>(p, context); });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
