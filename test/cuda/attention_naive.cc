#include <algorithm>

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

Naive naive(const Case& c, const Data& x, DType type) {
  Naive r;
  const auto at = [&](const TensorView& t, int64_t b, int64_t h, int64_t i) {
    const int ha = c.tokenMajor ? 2 : 1, ta = c.tokenMajor ? 1 : 2;
    return b * t.stride[0] + h * t.stride[ha] + i * t.stride[ta];
  };
  const auto round = [&](double v) { return rounded(v, type); };
  r.o.assign(x.gradO.values.size(), 0);
  r.lse.assign(x.gradLse.values.size(), kNone);
  r.gradQ.assign(x.q.values.size(), 0);
  r.gradK.assign(x.k.values.size(), 0);
  r.gradV.assign(x.v.values.size(), 0);
  const double scale = c.factor();
  for (int64_t b = 0; b < c.b; ++b) {
    const int64_t keys = c.keyLengths.empty() ? c.m : c.keyLengths[static_cast<size_t>(b)];
    const int64_t queries = c.queryLengths.empty() ? c.n : c.queryLengths[static_cast<size_t>(b)];
    for (int64_t h = 0; h < c.hq; ++h) {
      const int64_t g = h / (c.hq / c.hkv);
      for (int64_t i = 0; i < queries; ++i) {
        const double* q = x.q.values.data() + at(x.q.view, b, h, i);
        const int64_t outAt = at(x.gradO.view, b, h, i), lseAt = (b * c.hq + h) * c.n + i;
        std::vector<double> s(static_cast<size_t>(c.m), kNone), slope(static_cast<size_t>(c.m), 1);
        double top = kNone;
        for (int64_t j = 0; j < keys; ++j) {
          const int64_t place = i + keys - queries;
          if (c.causal && j > place) continue;
          if (c.left >= 0 && j < place - c.left) continue;
          if (c.right >= 0 && j > place + c.right) continue;
          double dot = 0;
          for (int64_t d = 0; d < c.d; ++d) dot += q[d] * x.k.values[at(x.k.view, b, g, j) + d];
          dot *= scale;
          if (c.softcap > 0) {
            const double t = std::tanh(dot / c.softcap);
            slope[j] = 1 - t * t;
            dot = c.softcap * t;
          }
          s[j] = round(dot);
          top = std::max(top, s[j]);
        }
        if (top == kNone) continue;
        double sum = 0;
        for (int64_t j = 0; j < keys; ++j) sum += std::exp(s[j] - top);
        const double lse = top + std::log(sum);
        r.lse[lseAt] = rounded(lse, type == DType::f64 ? type : DType::f32);
        std::vector<double> w(s.size()), gw(s.size());
        double mean = 0;
        for (int64_t j = 0; j < keys; ++j) {
          if (s[j] == kNone) continue;
          w[j] = round(std::exp(s[j] - lse));
          const int64_t v = at(x.v.view, b, g, j);
          for (int64_t d = 0; d < c.dv; ++d) {
            r.o[outAt + d] += w[j] * x.v.values[v + d];
            gw[j] += x.gradO.values[outAt + d] * x.v.values[v + d];
            r.gradV[v + d] += w[j] * x.gradO.values[outAt + d];
          }
          gw[j] = round(gw[j]);
          mean += w[j] * gw[j];
        }
        for (int64_t j = 0; j < keys; ++j) {
          if (s[j] == kNone) continue;
          const double ds =
              scale * slope[j] * round(w[j] * (gw[j] - mean + x.gradLse.values[lseAt]));
          const int64_t k = at(x.k.view, b, g, j), qAt = at(x.q.view, b, h, i);
          for (int64_t d = 0; d < c.d; ++d) {
            r.gradQ[qAt + d] += ds * x.k.values[k + d];
            r.gradK[k + d] += ds * q[d];
          }
        }
      }
    }
  }
  for (auto* part : {&r.o, &r.gradQ, &r.gradK, &r.gradV}) {
    for (double& y : *part) y = round(y);
  }
  return r;
}

}  // namespace longspan::attention_test
