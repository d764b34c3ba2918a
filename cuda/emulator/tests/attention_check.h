// A problem for the attention kernels, and whether a run was right: no finding, results within
// rounding of float64, no bank conflicts.
#pragma once

#include <cmath>
#include <random>

#include "cuda/emulator/tests/attention_common.cuh"
#include "cuda/emulator/tests/harness.h"

namespace longspan::cuda::test {

struct Shape {
  int batch, heads, queries, keys;
};

template <class T>
struct Problem {
  Shape shape;
  bool causal;
  std::vector<T> q, k, v;
  Buffer<T> dq, dk, dv, o;
  Buffer<float> lse;

  Problem(Shape s, bool isCausal)
      : shape(s),
        causal(isCausal),
        q(random(s, s.queries, 1)),
        k(random(s, s.keys, 2)),
        v(random(s, s.keys, 3)),
        dq(q),
        dk(k),
        dv(v),
        o(q.size()),
        lse(size_t{1} * s.batch * s.heads * s.queries) {}

  AttentionParams params() const {
    constexpr float kScaleLog2 = 0.125f * 1.4426950408889634f;
    return {dq, dk, dv, o, lse, shape.queries, shape.keys, shape.heads, kScaleLog2};
  }

  // "" when the run was right.
  std::string judge(cudaError_t error) const {
    if (error != cudaSuccess) return cudaGetErrorString(error);
    if (emulator::lastLaunch().stats.ldmatrixExtraPhases != 0) return "bank conflicts";
    double worst = 0, worstLse = 0;
    const auto got = o.download();
    const auto gotLse = lse.download();
    for (int b = 0; b < shape.batch; ++b) {
      for (int h = 0; h < shape.heads; ++h) {
        for (int i = 0; i < shape.queries; ++i) compare(b, h, i, got, gotLse, worst, worstLse);
      }
    }
    constexpr double kTolerance = 0.02, kToleranceLse = 2e-4;
    if (!(worst < kTolerance)) return "output off by " + std::to_string(worst);
    if (!(worstLse < kToleranceLse)) return "log-sum-exp off by " + std::to_string(worstLse);
    return "";
  }

 private:
  static std::vector<T> random(Shape s, int length, int seed) {
    std::mt19937 generator(static_cast<unsigned>(seed));
    std::normal_distribution<float> normal(0.f, 1.f);
    std::vector<T> values(size_t{64} * s.batch * length * s.heads);
    for (T& x : values) x = fromFloat<T>(normal(generator));
    return values;
  }

  size_t rowAt(int b, int length, int i, int h) const {
    return ((size_t{1} * b * length + i) * shape.heads + h) * 64;
  }

  void compare(int b, int h, int i, const std::vector<T>& got, const std::vector<float>& gotLse,
               double& worst, double& worstLse) const {
    const T* qi = &q[rowAt(b, shape.queries, i, h)];
    std::vector<double> scores(static_cast<size_t>(shape.keys), -INFINITY);
    double largest = -INFINITY, sum = 0, out[64] = {};
    for (int j = 0; j < shape.keys; ++j) {
      if (causal && j > i + shape.keys - shape.queries) continue;
      double dot = 0;
      const T* kj = &k[rowAt(b, shape.keys, j, h)];
      for (int c = 0; c < 64; ++c) dot += double{toFloat(qi[c])} * toFloat(kj[c]);
      scores[static_cast<size_t>(j)] = dot * 0.125;
      largest = std::max(largest, dot * 0.125);
    }
    for (int j = 0; j < shape.keys; ++j) {
      if (scores[static_cast<size_t>(j)] == -INFINITY) continue;
      const double weight = std::exp(scores[static_cast<size_t>(j)] - largest);
      sum += weight;
      const T* vj = &v[rowAt(b, shape.keys, j, h)];
      for (int c = 0; c < 64; ++c) out[c] += weight * toFloat(vj[c]);
    }
    const auto note = [](double& worstOf, double difference) {
      if (!(difference <= worstOf)) worstOf = std::isnan(difference) ? 1e9 : difference;
    };
    for (int c = 0; c < 64; ++c) {
      const double wanted = sum > 0 ? out[c] / sum : 0;
      const double value = toFloat(got[rowAt(b, shape.queries, i, h) + static_cast<size_t>(c)]);
      note(worst, std::abs(value - wanted));
    }
    const double wantedLse = sum > 0 ? largest + std::log(sum) : -INFINITY;
    const double value = gotLse[(size_t{1} * b * shape.heads + h) * shape.queries + i];
    note(worstLse, value == wantedLse ? 0 : std::abs(value - wantedLse));
  }
};

// The shapes of a correct kernel: ragged, shorter and longer than a tile, rows without a key.
inline const Shape kShapes[] = {{1, 1, 64, 64},   {1, 1, 1, 1},   {2, 2, 65, 65}, {1, 2, 100, 37},
                                {1, 1, 130, 257}, {1, 1, 1, 300}, {1, 1, 300, 1}, {1, 1, 37, 100}};

// Where every planted bug shows.
inline const Shape kBugShapes[] = {{1, 1, 200, 200}, {1, 1, 256, 320}};

// Runs `f(shape)`, which answers what was wrong, on every bug shape and schedule; every run must be
// flagged.
template <class F>
void expectFlagged(F&& f, bool everyShape = true) {
  forSchedules([&] {
    bool flagged = false, all = true;
    for (const Shape& shape : kBugShapes) {
      const bool wrong = !f(shape).empty();
      flagged |= wrong;
      all &= wrong;
    }
    expect(everyShape ? all : flagged, "a planted bug went unnoticed");
  });
}

}  // namespace longspan::cuda::test
