#include "cpp/cpu/attention/double.h"

#include <cmath>
#include <cstdlib>
#include <limits>

#include "cpp/core/philox.h"
#include "cpp/cpu/attention/double_row.h"
#include "cpp/cpu/attention/gradient_rows.h"
#include "cpp/cpu/attention/page_table.h"
#include "cpp/ops/dense/random.h"

namespace longspan::cpu {
namespace {

// Keys whose scores are held at once.
constexpr int64_t kTile = 64;
constexpr double kNone = -std::numeric_limits<double>::infinity();

// Scores and weights of one sequence, pair by pair.
struct Scores {
  const ops::AttentionProblem& p;
  const Band& band;
  BlockMask mask;
  PhiloxState state{};

  Scores(const ops::AttentionProblem& problem, const Band& b) : p(problem), band(b), mask(problem) {
    if (p.dropout > 0) state = loadPhilox(p.dropoutState.data<int32_t>());
  }

  struct Score {
    double value, slope;  // slope: d value / d product
  };
  Score of(double product, int64_t h, int64_t i, int64_t j) const {
    Score s{product * p.scale, p.scale};
    if (p.softcap > 0) {
      const double t = std::tanh(s.value / p.softcap);
      s = {p.softcap * t, p.scale * (1 - t * t)};
    }
    const int64_t b = band.entry;
    if (p.bias.defined()) {
      const TensorView& t = p.bias;
      s.value +=
          t.data<double>()[b * t.stride[0] + h * t.stride[1] + i * t.stride[2] + j * t.stride[3]];
    }
    if (p.alibiSlopes.defined()) {
      const TensorView& t = p.alibiSlopes;
      s.value -= t.data<double>()[b * t.stride[0] + h * t.stride[1]] *
                 static_cast<double>(std::abs(i + band.offset - j));
    }
    if (p.querySegments.defined()) {
      const auto segment = [&](const TensorView& t, int64_t row) {
        return t.data<int32_t>()[b * t.stride[0] + row * t.stride[1]];
      };
      if (segment(p.querySegments, band.queryBegin + i) !=
          segment(p.keySegments, band.keyBegin + j)) {
        s.value = kNone;
      }
    }
    if (mask.defined() && !mask.sees(b, h, i, j)) s.value = kNone;
    return s;
  }
  // What dropout multiplies a weight with.
  double kept(int64_t h, int64_t i, int64_t j) const {
    if (p.dropout == 0) return 1;
    const auto row = static_cast<uint64_t>((band.entry * p.queryHeads() + h) * p.queries() +
                                           band.queryBegin + i);
    const uint64_t block =
        row * static_cast<uint64_t>((p.keys() + 3) / 4) + static_cast<uint64_t>(j / 4);
    const bool falls = philox(state, block).word[j % 4] >> 8 < ops::probabilityThreshold(p.dropout);
    return falls ? 0 : 1 / (1 - p.dropout);
  }
};

}  // namespace

void attentionDouble(const ops::AttentionProblem& p, const TensorView& o, const TensorView& lse,
                     const std::vector<Band>& bands, Context& context) {
  const int64_t heads = p.queryHeads(), group = heads / p.keyHeads();
  const PageTable pages(p);
  for (const Band& band : bands) {
    const TensorView q = queryRowsOf(p.headMajor(p.q), band),
                     rows = queryRowsOf(p.headMajor(o), band);
    const Scores scores(p, band);
    const auto keyRow = [&](const TensorView& t, int64_t h, int64_t j) {
      const PageTable::Run at = pages.run(band.entry, band.keyBegin + j, 1);
      return Row(p.headMajor(t), at.entry, h / group, at.row);
    };
    context.pool.forEach(heads * band.queryRows, [&](int64_t item, int) {
      const int64_t i = item % band.queryRows, h = item / band.queryRows;
      const Row out(rows, 0, h, i), query(q, 0, h, i);
      clear(out);
      double maximum = kNone, sum = 0, s[kTile];
      if (p.sinks.defined()) {
        maximum = p.sinks.data<double>()[h * p.sinks.stride[0]];
        sum = maximum == kNone ? 0 : 1;
      }
      const Range seen = i < band.queries ? band.keysOf(i, i + 1) : Range{};
      for (int64_t begin = seen.begin; begin < seen.end; begin += kTile) {
        const int64_t count = std::min(kTile, seen.end - begin);
        double top = maximum;
        for (int64_t j = 0; j < count; ++j) {
          s[j] = scores.of(dot(query, keyRow(p.k, h, begin + j)), h, i, begin + j).value;
          top = std::max(top, s[j]);
        }
        if (top == kNone) continue;
        const double factor = sum == 0 ? 1 : std::exp(maximum - top);
        for (int64_t d = 0; d < out.dim; ++d) out[d] *= factor;
        sum *= factor;
        maximum = top;
        for (int64_t j = 0; j < count; ++j) {
          if (s[j] == kNone) continue;
          const double weight = std::exp(s[j] - maximum);
          sum += weight;
          addTo(out, weight * scores.kept(h, i, begin + j), keyRow(p.v, h, begin + j));
        }
      }
      if (i >= band.queries) sum = 0;
      if (sum != 0) {
        for (int64_t d = 0; d < out.dim; ++d) out[d] /= sum;
      }
      if (lse.defined()) {
        lse.data<double>()[(band.entry * heads + h) * p.queries() + band.queryBegin + i] =
            sum == 0 ? kNone : maximum + std::log(sum);
      }
    });
  }
}

namespace {

// Gradients of the scores of one sequence.
struct Gradients : GradientRows {
  Scores scores;
  int64_t group;

  Gradients(const ops::AttentionGradientProblem& problem, const Band& b)
      : GradientRows(problem, b), scores(p, b), group(p.queryHeads() / p.keyHeads()) {}

  double statistic(const TensorView& t, int64_t h, int64_t i) const {
    return GradientRows::statistic<double>(t, h, i);
  }
  double delta(int64_t h, int64_t i) const {
    const double sum = gradO.defined() ? dot(Row(gradO, 0, h, i), Row(o, 0, h, i)) : 0;
    return p.gradLse.defined() ? sum - statistic(p.gradLse, h, i) : sum;
  }

  struct Pair {
    double kept;          // the weight after dropout
    double score, slope;  // gradient of the score, and d score / d product
  };
  // Calls f(j, pair) for the keys that query i sees.
  template <class F>
  void forEachKey(int64_t h, int64_t i, F&& f) const {
    const Range seen = i < band.queries ? band.keysOf(i, i + 1) : Range{};
    const double lse = statistic(p.lse, h, i), mean = delta(h, i);
    for (int64_t j = seen.begin; j < seen.end; ++j) {
      const auto [s, slope] = scores.of(dot(Row(q, 0, h, i), Row(k, 0, h / group, j)), h, i, j);
      if (s == kNone) continue;
      const double weight = std::exp(s - lse), kept = scores.kept(h, i, j);
      const double gradKept =
          gradO.defined() ? dot(Row(gradO, 0, h, i), Row(v, 0, h / group, j)) : 0;
      f(j, Pair{weight * kept, weight * (gradKept * kept - mean), slope});
    }
  }
};

}  // namespace

void attentionBackwardDouble(const ops::AttentionBackward& p, const std::vector<Band>& bands,
                             Context& context) {
  const int64_t heads = p.queryHeads(), shared = p.keyHeads(), group = heads / shared;
  if (p.withGradSinks) std::fill_n(p.gradSinks.data<double>(), heads, 0.0);
  for (const Band& band : bands) {
    const Gradients rows(p, band);
    const TensorView gradQ = queryRowsOf(p.headMajor(p.gradQ), band),
                     gradK = keyRowsOf(p.headMajor(p.gradK), band),
                     gradV = keyRowsOf(p.headMajor(p.gradV), band);
    context.pool.forEach(shared, [&](int64_t g, int) {
      for (int64_t j = 0; j < band.keyRows; ++j) {
        clear(Row(gradK, 0, g, j));
        clear(Row(gradV, 0, g, j));
      }
      for (int64_t h = g * group; h < (g + 1) * group; ++h) {
        for (int64_t i = 0; i < band.queryRows; ++i) {
          const Row gq(gradQ, 0, h, i), query(rows.q, 0, h, i);
          clear(gq);
          rows.forEachKey(h, i, [&](int64_t j, const Gradients::Pair& pair) {
            if (rows.gradO.defined())
              addTo(Row(gradV, 0, g, j), pair.kept, Row(rows.gradO, 0, h, i));
            addTo(gq, pair.score * pair.slope, Row(rows.k, 0, g, j));
            addTo(Row(gradK, 0, g, j), pair.score * pair.slope, query);
          });
          if (!p.withGradSinks || i >= band.queries) continue;
          const double lse = rows.statistic(p.lse, h, i);
          if (lse == kNone) continue;
          const double logit = p.sinks.data<double>()[h * p.sinks.stride[0]];
          p.gradSinks.data<double>()[h] -= std::exp(logit - lse) * rows.delta(h, i);
        }
      }
    });
  }
}

void attentionBiasBackwardDouble(const ops::AttentionBiasBackward& p,
                                 const std::vector<Band>& bands, Context& context) {
  std::fill_n(p.gradBias.data<double>(), p.gradBias.numel(), 0.0);
  const TensorView t = p.target();
  // The bias may be repeated over anything: one thread adds.
  context.pool.forEach(1, [&](int64_t, int) {
    for (const Band& band : bands) {
      const Gradients rows(p, band);
      for (int64_t h = 0; h < p.queryHeads(); ++h) {
        for (int64_t i = 0; i < band.queries; ++i) {
          rows.forEachKey(h, i, [&](int64_t j, const Gradients::Pair& pair) {
            t.data<double>()[band.entry * t.stride[0] + h * t.stride[1] + i * t.stride[2] +
                             j * t.stride[3]] += pair.score;
          });
        }
      }
    }
  });
}

}  // namespace longspan::cpu
