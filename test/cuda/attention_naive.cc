#include <algorithm>

#include "cpp/core/philox.h"
#include "cpp/ops/dense/random.h"
#include "test/cuda/attention_case.h"

namespace longspan::attention_test {

void Data::poison(const Case& c) {
  if (c.tokenMajor) return;
  const auto beyond = [&](Array& a, const std::vector<int32_t>& lengths) {
    if (lengths.empty()) return;
    const int64_t width = a.view.rank == 4 ? a.view.shape[3] : 1, tokens = a.view.shape[2];
    for (size_t i = 0; i < a.values.size(); ++i) {
      const int64_t row = static_cast<int64_t>(i) / width;
      const auto length = lengths[static_cast<size_t>(row / tokens / a.view.shape[1])];
      if (row % tokens >= length) a.values[i] = NAN;
    }
  };
  beyond(q, c.queryLengths);
  beyond(gradO, c.queryLengths);
  beyond(gradLse, c.queryLengths);
  beyond(k, c.keyLengths);
  beyond(v, c.keyLengths);
}

namespace {

// Where a sequence lies, as kernels must take it: boundaries that descend or leave the tensors are
// raised to the largest before them, or cut off.
struct Place {
  int64_t b, queryBegin, keyBegin, queries, keys, prefix;
};

std::vector<Place> placesOf(const Case& c) {
  std::vector<Place> places;
  const auto of = [](const std::vector<int32_t>& x, int64_t i, int64_t none) {
    return x.empty() ? none : static_cast<int64_t>(x[static_cast<size_t>(i)]);
  };
  if (!c.packed()) {
    for (int64_t b = 0; b < c.b; ++b) {
      places.push_back({b, 0, 0, of(c.queryLengths, b, c.n), of(c.keyLengths, b, c.m),
                        of(c.prefixLengths, b, 0)});
    }
    return places;
  }
  const auto cut = [](int32_t x, int64_t before, int64_t most) {
    return std::max(before, std::clamp<int64_t>(x, 0, most));
  };
  int64_t q = cut(c.cuSeqlensQ[0], 0, c.n), k = cut(c.cuSeqlensK[0], 0, c.m);
  for (size_t s = 0; s + 1 < c.cuSeqlensQ.size(); ++s) {
    const int64_t nextQ = cut(c.cuSeqlensQ[s + 1], q, c.n),
                  nextK = cut(c.cuSeqlensK[s + 1], k, c.m);
    places.push_back(
        {0, q, k, nextQ - q, nextK - k, of(c.prefixLengths, static_cast<int64_t>(s), 0)});
    q = nextQ, k = nextK;
  }
  return places;
}

double keptOf(const Case& c, int64_t row, int64_t j) {
  if (c.dropout == 0) return 1;
  const auto block = static_cast<uint64_t>(row * ((c.m + 3) / 4) + j / 4);
  const uint32_t word = philox(loadPhilox(kDropoutState.data()), block).word[j % 4];
  return word >> 8 < ops::probabilityThreshold(c.dropout) ? 0 : 1 / (1 - c.dropout);
}

}  // namespace

Naive naive(const Case& c, const Data& x, DType type) {
  Naive r;
  const auto at = [&](const TensorView& t, int64_t b, int64_t h, int64_t i) {
    const int ha = c.tokenMajor ? 2 : 1, ta = c.tokenMajor ? 1 : 2;
    return b * t.stride[0] + h * t.stride[ha] + i * t.stride[ta];
  };
  const auto biasAt = [&](int64_t b, int64_t h, int64_t i, int64_t j) {
    const int64_t where[] = {b, h, i, j};
    int64_t index = 0;
    for (size_t axis = 0; axis < 4; ++axis) {
      index = index * c.bias[axis] + (c.bias[axis] == 1 ? 0 : where[axis]);
    }
    return static_cast<size_t>(index);
  };
  const auto round = [&](double v) { return rounded(v, type); };
  r.o.assign(x.gradO.values.size(), 0);
  r.lse.assign(x.gradLse.values.size(), kNone);
  r.gradQ.assign(x.q.values.size(), 0);
  r.gradK.assign(x.k.values.size(), 0);
  r.gradV.assign(x.v.values.size(), 0);
  r.gradBias.assign(x.bias.values.size(), 0);
  r.gradSinks.assign(x.sinks.values.size(), 0);
  const double scale = c.factor();
  for (const Place& p : placesOf(c)) {
    for (int64_t h = 0; h < c.hq; ++h) {
      const int64_t g = h / (c.hq / c.hkv);
      const double sink = c.sinks ? x.sinks.values[static_cast<size_t>(h)] : kNone;
      for (int64_t i = 0; i < p.queries; ++i) {
        const int64_t row = p.queryBegin + i;
        const double* q = x.q.values.data() + at(x.q.view, p.b, h, row);
        const int64_t outAt = at(x.gradO.view, p.b, h, row), lseAt = (p.b * c.hq + h) * c.n + row;
        std::vector<double> s(static_cast<size_t>(p.keys), kNone), slope(s.size(), 1);
        double top = sink;
        for (int64_t j = 0; j < p.keys; ++j) {
          const int64_t place = i + p.keys - p.queries, key = p.keyBegin + j;
          if (c.causal && j > place && j >= p.prefix) continue;
          if (c.left >= 0 && j < place - c.left) continue;
          if (c.right >= 0 && j > place + c.right && j >= p.prefix) continue;
          if (!c.querySegments.empty() && c.querySegments[static_cast<size_t>(p.b * c.n + row)] !=
                                              c.keySegments[static_cast<size_t>(p.b * c.m + key)]) {
            continue;
          }
          double dot = 0;
          for (int64_t d = 0; d < c.d; ++d) dot += q[d] * x.k.values[at(x.k.view, p.b, g, key) + d];
          dot *= scale;
          if (c.softcap > 0) {
            const double t = std::tanh(dot / c.softcap);
            slope[j] = 1 - t * t;
            dot = c.softcap * t;
          }
          if (!c.bias.empty()) dot += x.bias.values[biasAt(p.b, h, i, j)];
          if (c.alibi) dot -= x.slopes.values[static_cast<size_t>(h)] * std::fabs(place - j);
          s[j] = round(dot);
          top = std::max(top, s[j]);
        }
        if (top == kNone) continue;
        double sum = std::exp(sink - top);
        for (const double score : s) sum += std::exp(score - top);
        const double lse = top + std::log(sum);
        r.lse[lseAt] = rounded(lse, type == DType::f64 ? type : DType::f32);
        std::vector<double> w(s.size()), gw(s.size());
        double mean = 0;
        for (int64_t j = 0; j < p.keys; ++j) {
          if (s[j] == kNone) continue;
          w[j] = round(std::exp(s[j] - lse));
          const double kept = keptOf(c, lseAt, j);
          const int64_t v = at(x.v.view, p.b, g, p.keyBegin + j);
          for (int64_t d = 0; d < c.dv; ++d) {
            r.o[outAt + d] += w[j] * kept * x.v.values[v + d];
            gw[j] += x.gradO.values[outAt + d] * x.v.values[v + d];
            r.gradV[v + d] += w[j] * kept * x.gradO.values[outAt + d];
          }
          gw[j] = round(kept * gw[j]);
          mean += w[j] * gw[j];
        }
        const double toLse = x.gradLse.values[lseAt];
        if (c.sinks) r.gradSinks[static_cast<size_t>(h)] += std::exp(sink - lse) * (toLse - mean);
        for (int64_t j = 0; j < p.keys; ++j) {
          if (s[j] == kNone) continue;
          const double gradScore = round(w[j] * (gw[j] - mean + toLse));
          if (!c.bias.empty()) r.gradBias[biasAt(p.b, h, i, j)] += gradScore;
          const double ds = scale * slope[j] * gradScore;
          const int64_t k = at(x.k.view, p.b, g, p.keyBegin + j), qAt = at(x.q.view, p.b, h, row);
          for (int64_t d = 0; d < c.d; ++d) {
            r.gradQ[qAt + d] += ds * x.k.values[k + d];
            r.gradK[k + d] += ds * q[d];
          }
        }
      }
    }
  }
  for (auto* part : {&r.o, &r.gradQ, &r.gradK, &r.gradV, &r.gradBias}) {
    for (double& y : *part) y = round(y);
  }
  return r;
}

}  // namespace longspan::attention_test
