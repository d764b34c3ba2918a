#include "cpp/cpu/attention/double.h"

#include <cmath>
#include <limits>

namespace longspan::cpu {
namespace {

// Keys whose scores are held at once.
constexpr int64_t kTile = 64;
constexpr double kNone = -std::numeric_limits<double>::infinity();

struct Score {
  double scale, cap;
  explicit Score(const ops::AttentionProblem& p) : scale(p.scale), cap(p.softcap) {}
  double of(double product) const {
    const double x = product * scale;
    return cap > 0 ? cap * std::tanh(x / cap) : x;
  }
  // d score / d product
  double slope(double score) const {
    return cap > 0 ? scale * (1 - score / cap * (score / cap)) : scale;
  }
};

// A row of head (b, h) of a [B, H, tokens, dim] view.
struct Row {
  double* at;
  int64_t step, dim;
  Row(const TensorView& t, int64_t b, int64_t h, int64_t i)
      : at(t.data<double>() + b * t.stride[0] + h * t.stride[1] + i * t.stride[2]),
        step(t.stride[3]),
        dim(t.shape[3]) {}
  double& operator[](int64_t d) const { return at[d * step]; }
};

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (int64_t d = 0; d < a.dim; ++d) sum += a[d] * b[d];
  return sum;
}

void addTo(const Row& y, double factor, const Row& x) {
  for (int64_t d = 0; d < y.dim; ++d) y[d] += factor * x[d];
}

void clear(const Row& y) {
  for (int64_t d = 0; d < y.dim; ++d) y[d] = 0;
}

}  // namespace

void attentionDouble(const ops::AttentionProblem& p, const TensorView& o, const TensorView& lse,
                     const std::vector<Band>& bands, Context& context) {
  const TensorView q = p.headMajor(p.q), k = p.headMajor(p.k), v = p.headMajor(p.v),
                   rows = p.headMajor(o);
  const int64_t n = p.queries(), heads = p.queryHeads(), group = heads / p.keyHeads();
  const Score score(p);
  context.pool.forEach(p.batch() * heads * n, [&](int64_t item, int) {
    const int64_t i = item % n, h = item / n % heads, b = item / n / heads;
    const Band& band = bands[static_cast<size_t>(b)];
    const Row out(rows, b, h, i), query(q, b, h, i);
    clear(out);
    double maximum = kNone, sum = 0, s[kTile];
    const Range seen = i < band.queries ? band.keysOf(i, i + 1) : Range{};
    for (int64_t begin = seen.begin; begin < seen.end; begin += kTile) {
      const int64_t count = std::min(kTile, seen.end - begin);
      double top = maximum;
      for (int64_t j = 0; j < count; ++j) {
        s[j] = score.of(dot(query, Row(k, b, h / group, begin + j)));
        top = std::max(top, s[j]);
      }
      const double factor = sum == 0 ? 1 : std::exp(maximum - top);
      for (int64_t d = 0; d < out.dim; ++d) out[d] *= factor;
      sum *= factor;
      maximum = top;
      for (int64_t j = 0; j < count; ++j) {
        const double weight = std::exp(s[j] - maximum);
        sum += weight;
        addTo(out, weight, Row(v, b, h / group, begin + j));
      }
    }
    if (sum != 0) {
      for (int64_t d = 0; d < out.dim; ++d) out[d] /= sum;
    }
    if (lse.defined()) lse.data<double>()[item] = sum == 0 ? kNone : maximum + std::log(sum);
  });
}

void attentionBackwardDouble(const ops::AttentionBackward& p, const std::vector<Band>& bands,
                             Context& context) {
  const TensorView q = p.headMajor(p.q), k = p.headMajor(p.k), v = p.headMajor(p.v),
                   o = p.headMajor(p.o);
  const TensorView gradQ = p.headMajor(p.gradQ), gradK = p.headMajor(p.gradK),
                   gradV = p.headMajor(p.gradV);
  const TensorView gradO = p.gradO.defined() ? p.headMajor(p.gradO) : TensorView{};
  const int64_t n = p.queries(), heads = p.queryHeads(), shared = p.keyHeads(),
                group = heads / shared;
  const Score score(p);
  const auto statistic = [&](const TensorView& t, int64_t b, int64_t h, int64_t i) {
    return t.data<double>()[b * t.stride[0] + h * t.stride[1] + i * t.stride[2]];
  };
  context.pool.forEach(p.batch() * shared, [&](int64_t item, int) {
    const int64_t b = item / shared, g = item % shared;
    const Band& band = bands[static_cast<size_t>(b)];
    for (int64_t j = 0; j < p.keys(); ++j) {
      clear(Row(gradK, b, g, j));
      clear(Row(gradV, b, g, j));
    }
    for (int64_t h = g * group; h < (g + 1) * group; ++h) {
      for (int64_t i = 0; i < n; ++i) {
        const Row gq(gradQ, b, h, i), query(q, b, h, i);
        clear(gq);
        const Range seen = i < band.queries ? band.keysOf(i, i + 1) : Range{};
        const double lse = statistic(p.lse, b, h, i);
        double delta = gradO.defined() ? dot(Row(gradO, b, h, i), Row(o, b, h, i)) : 0;
        if (p.gradLse.defined()) delta -= statistic(p.gradLse, b, h, i);
        for (int64_t j = seen.begin; j < seen.end; ++j) {
          const double s = score.of(dot(query, Row(k, b, g, j))), weight = std::exp(s - lse);
          double gradWeight = -delta;
          if (gradO.defined()) {
            const Row go(gradO, b, h, i);
            gradWeight += dot(go, Row(v, b, g, j));
            addTo(Row(gradV, b, g, j), weight, go);
          }
          const double gradProduct = weight * gradWeight * score.slope(s);
          addTo(gq, gradProduct, Row(k, b, g, j));
          addTo(Row(gradK, b, g, j), gradProduct, query);
        }
      }
    }
  });
}

}  // namespace longspan::cpu
