#include "cpp/cpu/sparse/sorted_double.h"

#include <cmath>
#include <limits>

#include "cpp/cpu/attention/double_row.h"
#include "cpp/cpu/sparse/sorted_entries.h"

namespace longspan::cpu {
namespace {

constexpr double kHiddenLogit = -std::numeric_limits<double>::infinity();

// The logit of a pair, but for the rounds in which it is seen.
double logitOf(const ops::SortedAttentionProblem& p, const Row& q, const Row& k, bool isSelf) {
  const double x = p.scale * dot(q, k);
  if (!isSelf) return x;
  switch (p.self) {
    case ops::SortedSelf::hidden:
      return kHiddenLogit;
    case ops::SortedSelf::lastResort:
      return -p.selfPenalty;
    case ops::SortedSelf::penalised:
      return x - p.selfPenalty;
    default:
      return x;
  }
}

// Takes a logit into a row's maximum and sum; what is summed beside them is rescaled.
template <class F>
void addLogit(double x, double& maximum, double& sum, F&& rescale) {
  if (x > maximum) {
    const double factor = sum == 0 ? 0 : std::exp(maximum - x);
    sum *= factor;
    rescale(factor);
    maximum = x;
  }
  sum += std::exp(x - maximum);
}

// The pairs of one head with their logits.
struct SortedPairs {
  const ops::SortedAttentionProblem& p;
  int64_t b, h, sharedHead;
  SortedPlaces places;
  int64_t length;

  SortedPairs(const ops::SortedAttentionProblem& problem, const int32_t* all, int64_t entry,
              int64_t head)
      : p(problem),
        b(entry),
        h(head),
        sharedHead(head / (p.queryHeads() / p.keyHeads())),
        places(p, const_cast<int32_t*>(all), b, h),
        length(p.lengths.defined() ? p.lengths.data<int32_t>()[b * p.lengths.stride[0]]
                                   : int64_t{1} << 30) {}

  double logit(int64_t i, int64_t j) const {
    const double x = logitOf(p, Row(p.q, b, h, i), Row(p.k, b, sharedHead, j), i == j);
    if (x == kHiddenLogit) return x;
    return x - logDuplicates(p, places, i, j);
  }
  // d logit / d product.
  double slope(int64_t i, int64_t j) const {
    return i == j && p.self == ops::SortedSelf::lastResort ? 0 : p.scale;
  }

  // Calls f(i, j) for the pairs of a round's entries, those of an entry of i one after another.
  template <class F>
  void forEach(int64_t r, F&& f) const {
    const SortedRound round(p, b, h, r);
    for (int64_t g = 0; g < p.groups(); ++g) {
      if (p.isGlobal()) {
        for (int64_t s = round.queries(g).begin; s < round.queries(g).end; ++s)
          globalRow(round.queryOrder[s], r, s, f);
        continue;
      }
      round.forEachQuery(g, [&](int64_t s, Places seen) {
        for (int64_t t = seen.begin; t < seen.end; ++t) f(round.queryOrder[s], round.keyOrder[t]);
      });
    }
  }

 private:
  template <class F>
  void globalRow(int64_t i, int64_t r, int64_t place, F&& f) const {
    if (i >= length) return;
    const int64_t rounds = p.rounds(), entries = p.keyEntries(), all = rounds * entries;
    const SeenChunks seen(p, (r * entries + place) / p.chunk);
    for (int64_t n = 0; n < seen.count; ++n) {
      const int64_t first = seen.at(n, p.chunks()) * p.chunk;
      for (int64_t t = first; t < std::min(all, first + p.chunk); ++t) {
        const int64_t s = t / entries;
        const SortedRound other(p, b, h, s);
        if (t % entries >= other.keys(p.groups() - 1).end) continue;
        const int64_t j = other.keyOrder[t % entries];
        if (j >= length || (p.causal && j > i) || !seesGlobally(p, places, i, r, j, s)) continue;
        f(i, j);
      }
    }
  }
};

double& sortedStatistic(const TensorView& t, int64_t b, int64_t h, int64_t i) {
  return t.data<double>()[b * t.stride[0] + h * t.stride[1] + i * t.stride[2]];
}

}  // namespace

void sortedAttentionDouble(const ops::SortedAttention& p, const int32_t* all, Context& context) {
  const int64_t heads = p.queryHeads();
  context.pool.forEach(p.batch() * heads, [&](int64_t item, int) {
    const int64_t b = item / heads, h = item % heads;
    const SortedPairs pairs(p, all, b, h);
    std::vector<double> maximum(static_cast<size_t>(p.queries()), kHiddenLogit);
    std::vector<double> sum(maximum.size(), 0.0), one, total;
    for (int64_t i = 0; i < p.queries(); ++i) clear(Row(p.o, b, h, i));
    for (int64_t r = 0; r < p.rounds(); ++r) {
      if (p.withRoundLse) {
        one.assign(maximum.size(), kHiddenLogit);
        total.assign(maximum.size(), 0.0);
      }
      pairs.forEach(r, [&](int64_t i, int64_t j) {
        const double x = pairs.logit(i, j);
        if (x == kHiddenLogit) return;
        const auto at = static_cast<size_t>(i);
        const Row out(p.o, b, h, i);
        addLogit(x, maximum[at], sum[at], [&](double factor) {
          for (int64_t d = 0; d < out.dim; ++d) out[d] *= factor;
        });
        addTo(out, std::exp(x - maximum[at]), Row(p.v, b, pairs.sharedHead, j));
        if (p.withRoundLse) addLogit(x, one[at], total[at], [](double) {});
      });
      for (int64_t i = 0; p.withRoundLse && i < p.queries(); ++i) {
        const auto at = static_cast<size_t>(i);
        p.roundLse.data<double>()[((b * heads + h) * p.rounds() + r) * p.queries() + i] =
            total[at] == 0 ? kHiddenLogit : one[at] + std::log(total[at]);
      }
    }
    for (int64_t i = 0; i < p.queries(); ++i) {
      const auto at = static_cast<size_t>(i);
      const Row out(p.o, b, h, i);
      for (int64_t d = 0; sum[at] != 0 && d < out.dim; ++d) out[d] /= sum[at];
      sortedStatistic(p.lse, b, h, i) =
          sum[at] == 0 ? kHiddenLogit : maximum[at] + std::log(sum[at]);
    }
  });
}

void sortedAttentionBackwardDouble(const ops::SortedAttentionBackward& p, const int32_t* all,
                                   Context& context) {
  const int64_t shared = p.keyHeads(), group = p.queryHeads() / shared;
  context.pool.forEach(p.batch() * shared, [&](int64_t item, int) {
    const int64_t b = item / shared, g = item % shared;
    for (int64_t j = 0; j < p.keys(); ++j) {
      clear(Row(p.gradK, b, g, j));
      clear(Row(p.gradV, b, g, j));
    }
    for (int64_t h = g * group; h < (g + 1) * group; ++h) {
      const SortedPairs pairs(p, all, b, h);
      std::vector<double> delta(static_cast<size_t>(p.queries()));
      for (int64_t i = 0; i < p.queries(); ++i) {
        clear(Row(p.gradQ, b, h, i));
        double& x = delta[static_cast<size_t>(i)];
        if (p.gradO.defined()) x = dot(Row(p.gradO, b, h, i), Row(p.o, b, h, i));
        if (p.gradLse.defined()) x -= sortedStatistic(p.gradLse, b, h, i);
      }
      for (int64_t r = 0; r < p.rounds(); ++r) {
        pairs.forEach(r, [&](int64_t i, int64_t j) {
          const double x = pairs.logit(i, j);
          if (x == kHiddenLogit) return;
          const double weight = std::exp(x - sortedStatistic(p.lse, b, h, i));
          double product = 0;
          if (p.gradO.defined()) {
            const Row gradO(p.gradO, b, h, i);
            product = dot(gradO, Row(p.v, b, g, j));
            addTo(Row(p.gradV, b, g, j), weight, gradO);
          }
          const double gradient =
              weight * (product - delta[static_cast<size_t>(i)]) * pairs.slope(i, j);
          addTo(Row(p.gradQ, b, h, i), gradient, Row(p.k, b, g, j));
          addTo(Row(p.gradK, b, g, j), gradient, Row(p.q, b, h, i));
        });
      }
    }
  });
}

void DoubleRow::start(const TensorView& q, int64_t b, int64_t h, int64_t token) {
  q_ = &q;
  b_ = b;
  h_ = h;
  token_ = token;
  maximum_ = kHiddenLogit;
  sum_ = 0;
  for (double& x : out_) x = 0;
}

void DoubleRow::add(const ops::SortedAttentionProblem& p, const TensorView& k, const TensorView& v,
                    int64_t row, int64_t count, bool isSelf) {
  const double x = logitOf(p, Row(*q_, b_, h_, token_), Row(k, b_, h_, row), isSelf) -
                   std::log(static_cast<double>(count));
  const Row value(v, b_, h_, row);
  addLogit(x, maximum_, sum_, [&](double factor) {
    for (int64_t d = 0; d < value.dim; ++d) out_[d] *= factor;
  });
  const double weight = std::exp(x - maximum_);
  for (int64_t d = 0; d < value.dim; ++d) out_[d] += weight * value[d];
}

void DoubleRow::finish(const TensorView& o) {
  const Row out(o, b_, h_, token_);
  for (int64_t d = 0; d < out.dim; ++d) out[d] = sum_ == 0 ? 0 : out_[d] / sum_;
}

}  // namespace longspan::cpu
