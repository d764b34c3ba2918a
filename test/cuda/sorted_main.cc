// The kernels of sorted attention against the definition in float64, pair by pair, over ragged
// shapes, patterns, schedules and both modes of asynchrony of the emulator; results pass as those
// of attention_main.cc do. Usage: sorted_main [cases|planted|wide planted]...
#include <algorithm>
#include <numeric>

#include "cpp/ops/sparse/sorted_attention.h"
#include "test/cuda/kernel_runs.h"

namespace longspan {

// The CPU's kernels are not linked.
#define LONGSPAN_ABSENT(level)                                                                    \
  namespace level {                                                                               \
  Status sortedAttention(const ops::SortedAttention&, Context&) { return {}; }                    \
  Status sortedAttentionBackward(const ops::SortedAttentionBackward&, Context&) { return {}; }    \
  size_t sortedAttentionWorkspace(const ops::SortedAttention&, int) { return 0; }                 \
  size_t sortedAttentionBackwardWorkspace(const ops::SortedAttentionBackward&, int) { return 0; } \
  }
namespace cpu {
Level level() { return Level::portable; }
LONGSPAN_ABSENT(portable)
LONGSPAN_ABSENT(v3)
LONGSPAN_ABSENT(v4)
}  // namespace cpu

namespace sorted_test {
namespace {

using namespace kernel_runs;
using ops::SortedDuplicates;
using ops::SortedPattern;
using ops::SortedSelf;

constexpr double kNone = -INFINITY;

struct Case {
  const char* name;
  DType dtype;
  int64_t b, h, hk, n, m, d, dv, rounds, groups;
  SortedPattern pattern = SortedPattern::chunk;
  int64_t chunk = 16, back = 1, forward = 0, window = 20;
  bool causal = true;
  SortedSelf self = SortedSelf::ordinary;
  double penalty = 0;
  SortedDuplicates duplicates = SortedDuplicates::counted;
  bool sameGroup = false;
  int64_t shift = 0, pad = 0;

  bool global() const { return pattern == SortedPattern::global; }
  double scale() const { return 1 / std::sqrt(static_cast<double>(d)); }
  std::string text() const {
    return std::string(name) + " " + nameOf(dtype) + " n" + std::to_string(n) + " m" +
           std::to_string(m) + " d" + std::to_string(d) + "/" + std::to_string(dv);
  }
};

// The order of tokens in random groups, some of them in none.
struct Order {
  int64_t entries, groups;
  std::vector<int32_t> order, offsets, groupOf;  // [lines, entries], [lines, groups + 1]

  Order(int64_t lines, int64_t tokens, int64_t groupCount, std::mt19937& generator)
      : entries(tokens), groups(groupCount) {
    for (int64_t line = 0; line < lines; ++line) {
      std::vector<int32_t> group(static_cast<size_t>(tokens)), index(group.size());
      for (int32_t& g : group) {
        g = static_cast<int32_t>(generator() % static_cast<unsigned>(groups * 8 + 1)) / 8;
      }
      std::iota(index.begin(), index.end(), 0);
      std::stable_sort(index.begin(), index.end(), [&](int32_t a, int32_t b) {
        return group[static_cast<size_t>(a)] < group[static_cast<size_t>(b)];
      });
      for (int64_t g = 0; g <= groups; ++g) {
        offsets.push_back(static_cast<int32_t>(
            std::count_if(group.begin(), group.end(), [&](int32_t x) { return x < g; })));
      }
      order.insert(order.end(), index.begin(), index.end());
      for (const int32_t i : index) groupOf.push_back(group[static_cast<size_t>(i)]);
    }
  }
  int32_t at(int64_t line, int64_t entry) const {
    return order[static_cast<size_t>(line * entries + entry)];
  }
  int64_t group(int64_t line, int64_t entry) const {
    return groupOf[static_cast<size_t>(line * entries + entry)];
  }
  int64_t offset(int64_t line, int64_t g) const {
    return offsets[static_cast<size_t>(line * (groups + 1) + g)];
  }
};

// Integers on the device.
struct Integers {
  void* device = nullptr;
  TensorView view;
  Integers(const std::vector<int32_t>& x, std::initializer_list<int64_t> shape)
      : view(TensorView::ofShape(DType::i32, shape)) {
    cudaMalloc(&device, x.size() * 4);
    cudaMemcpy(device, x.data(), x.size() * 4, cudaMemcpyHostToDevice);
    view.base = static_cast<std::byte*>(device);
  }
  Integers(const Integers&) = delete;
  Integers& operator=(const Integers&) = delete;
  ~Integers() { cudaFree(device); }
};

struct Data {
  Array q, k, v, gradO, gradLse;
  Order queries, keys;

  Data(const Case& c, std::mt19937 generator)
      : queries(c.b * c.h * c.rounds, c.n, c.groups, generator),
        keys(c.global() || c.n == c.m ? queries
                                      : Order(c.b * c.h * c.rounds, c.m, c.groups, generator)) {
    q.shape({c.b, c.h, c.n, c.d});
    k.shape({c.b, c.hk, c.m, c.d});
    v.shape({c.b, c.hk, c.m, c.dv});
    gradO.shape({c.b, c.h, c.n, c.dv});
    gradLse.shape({c.b, c.h, c.n});
    for (Array* a : {&q, &k, &v, &gradO}) a->random(generator, c.dtype);
    gradLse.random(generator, DType::f32);
  }
};

// In how many ways query i sees key j: in all, and by entries of one round.
struct Ways {
  int64_t keys;
  std::vector<int> all, same;

  Ways(const Case& c, const Data& x, int64_t head)
      : keys(c.m), all(static_cast<size_t>(c.n * c.m)), same(all.size()) {
    for (int64_t r = 0; r < c.rounds; ++r) {
      for (int64_t e = 0; e < c.n; ++e) {
        for (int64_t s = c.global() ? 0 : r; s < (c.global() ? c.rounds : r + 1); ++s) {
          for (int64_t f = 0; f < c.m; ++f) {
            if (!sees(c, x, head, r, e, s, f)) continue;
            const auto at = static_cast<size_t>(x.queries.at(head * c.rounds + r, e) * keys +
                                                x.keys.at(head * c.rounds + s, f));
            ++all[at];
            if (r == s) ++same[at];
          }
        }
      }
    }
  }

  static bool sees(const Case& c, const Data& x, int64_t head, int64_t r, int64_t e, int64_t s,
                   int64_t f) {
    const int64_t own = head * c.rounds + r, other = head * c.rounds + s;
    const int64_t g = x.queries.group(own, e), o = x.keys.group(other, f);
    if (g == c.groups || o == c.groups) return false;
    const int32_t i = x.queries.at(own, e), j = x.keys.at(other, f);
    if (c.causal && j > i) return false;
    if (c.global()) {
      if (c.sameGroup && (r != s || g != o)) return false;
      const int64_t chunks = (c.rounds * c.n + c.chunk - 1) / c.chunk;
      const int64_t distance = (r * c.n + e) / c.chunk - (s * c.n + f) / c.chunk;
      for (int64_t near = -c.forward; near <= c.back; ++near) {
        if ((distance - near) % chunks == 0) return true;
      }
      return false;
    }
    if (g != o) return false;
    const int64_t rank = e - x.queries.offset(own, g), key = f - x.keys.offset(other, g);
    if (c.pattern == SortedPattern::chunk) {
      return key >= (rank / c.chunk - c.back) * c.chunk &&
             key < (rank / c.chunk + 1 + c.forward) * c.chunk;
    }
    if (c.pattern == SortedPattern::group) return true;
    int64_t later = 0;  // keys after this one that the query sees too
    while (f + later + 1 < x.keys.offset(other, g + 1) && x.keys.at(other, f + later + 1) <= i) {
      ++later;
    }
    return later < c.window;
  }
};

struct Naive {
  std::vector<double> o, lse, gradQ, gradK, gradV;
};

Naive naive(const Case& c, const Data& x, DType type) {
  const auto round = [&](double y) { return rounded(y, type); };
  Naive r;
  r.o.assign(x.gradO.values.size(), 0);
  r.lse.assign(x.gradLse.values.size(), kNone);
  r.gradQ.assign(x.q.values.size(), 0);
  r.gradK.assign(x.k.values.size(), 0);
  r.gradV.assign(x.v.values.size(), 0);
  for (int64_t head = 0; head < c.b * c.h; ++head) {
    const int64_t shared = head / c.h * c.hk + head % c.h / (c.h / c.hk);
    const Ways ways(c, x, head);
    for (int64_t i = 0; i < c.n; ++i) {
      const int64_t row = head * c.n + i;
      const double *q = &x.q.values[row * c.d], *gradO = &x.gradO.values[row * c.dv];
      std::vector<double> s(static_cast<size_t>(c.m), kNone), slope(s.size(), c.scale());
      double top = kNone;
      for (int64_t j = 0; j < c.m; ++j) {
        const auto at = static_cast<size_t>(i * c.m + j);
        if (ways.all[at] == 0) continue;
        const double* k = &x.k.values[(shared * c.m + j) * c.d];
        double logit = c.scale() * std::inner_product(q, q + c.d, k, 0.0);
        if (i == j && c.self == SortedSelf::hidden) continue;
        if (i == j && c.self == SortedSelf::lastResort) logit = -c.penalty, slope[j] = 0;
        if (i == j && c.self == SortedSelf::penalised) logit -= c.penalty;
        if (c.duplicates == SortedDuplicates::counted) logit += std::log(ways.all[at]);
        if (c.duplicates == SortedDuplicates::sameRound) {
          logit += std::log(ways.all[at]) - std::log(ways.same[at] + 1e-9);
        }
        s[j] = i == j ? logit : round(logit);
        top = std::max(top, s[j]);
      }
      if (top == kNone) continue;
      double sum = 0;
      for (const double score : s) sum += std::exp(score - top);
      const double lse = top + std::log(sum);
      r.lse[row] = rounded(lse, type == DType::f64 ? type : DType::f32);
      std::vector<double> w(s.size()), gw(s.size());
      double mean = 0;
      for (int64_t j = 0; j < c.m; ++j) {
        w[j] = round(std::exp(s[j] - lse));
        if (w[j] == 0) continue;
        const int64_t v = (shared * c.m + j) * c.dv;
        for (int64_t e = 0; e < c.dv; ++e) {
          r.o[row * c.dv + e] += w[j] * x.v.values[v + e];
          gw[j] += gradO[e] * x.v.values[v + e];
          r.gradV[v + e] += w[j] * gradO[e];
        }
        gw[j] = round(gw[j]);
        mean += w[j] * gw[j];
      }
      for (int64_t j = 0; j < c.m; ++j) {
        if (w[j] == 0) continue;
        const double ds = slope[j] * round(w[j] * (gw[j] - mean + x.gradLse.values[row]));
        const int64_t k = (shared * c.m + j) * c.d;
        for (int64_t e = 0; e < c.d; ++e) {
          r.gradQ[row * c.d + e] += ds * x.k.values[k + e];
          r.gradK[k + e] += ds * q[e];
        }
      }
    }
  }
  for (auto* part : {&r.o, &r.gradQ, &r.gradK, &r.gradV}) {
    for (double& y : *part) y = round(y);
  }
  return r;
}

template <class P>
void options(P& p, const Case& c) {
  p.pattern = c.pattern;
  p.chunk = c.chunk, p.back = c.back, p.forward = c.forward, p.window = c.window;
  p.causal = c.causal, p.sameGroup = c.sameGroup;
  p.self = c.self, p.selfPenalty = c.penalty, p.duplicates = c.duplicates;
  p.scale = c.scale();
}

void runCase(const Case& c) {
  Data x(c, std::mt19937(11));
  const Naive truth = naive(c, x, DType::f64), rough = naive(c, x, c.dtype);
  const Integers queryOrder(x.queries.order, {c.b, c.h, c.rounds, c.n});
  const Integers queryOffsets(x.queries.offsets, {c.b, c.h, c.rounds, c.groups + 1});
  const Integers keyOrder(x.keys.order, {c.b, c.h, c.rounds, c.m});
  const Integers keyOffsets(x.keys.offsets, {c.b, c.h, c.rounds, c.groups + 1});
  const auto place = [&](auto& p) {
    options(p, c);
    p.q = x.q.onDevice(c.dtype, c.shift, c.pad);
    p.k = x.k.onDevice(c.dtype, c.shift, c.pad);
    p.v = x.v.onDevice(c.dtype, c.shift, c.pad);
    p.queryOrder = queryOrder.view, p.queryOffsets = queryOffsets.view;
    p.keyOrder = keyOrder.view, p.keyOffsets = keyOffsets.view;
  };
  ops::SortedAttention p;
  place(p);
  p.withRoundLse = true;
  check(p.validate(), c.text());
  const auto got = onGpu(p, "forward " + c.text(), {&p.o, &p.lse, &p.roundLse});
  if (got.empty()) return;
  compare("o " + c.text(), got[0], truth.o, rough.o, 2, c.dtype);
  compare("lse " + c.text(), got[1], truth.lse, rough.lse, 2, DType::f32);

  ops::SortedAttentionBackward g;
  place(g);
  Array o, lse;
  o.view = x.gradO.view, o.values = truth.o;
  lse.view = x.gradLse.view, lse.values = truth.lse;
  g.o = o.onDevice(c.dtype);
  g.lse = lse.onDevice(DType::f32);
  g.gradO = x.gradO.onDevice(c.dtype, c.shift, c.pad);
  g.gradLse = x.gradLse.onDevice(DType::f32);
  check(g.validate(), c.text());
  const auto grads = onGpu(g, "backward " + c.text(), {&g.gradQ, &g.gradK, &g.gradV});
  if (grads.empty()) return;
  compare("gradQ " + c.text(), grads[0], truth.gradQ, rough.gradQ, 3, c.dtype);
  compare("gradK " + c.text(), grads[1], truth.gradK, rough.gradK, 3, c.dtype);
  compare("gradV " + c.text(), grads[2], truth.gradV, rough.gradV, 3, c.dtype);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const DType t : {DType::f16, DType::bf16, DType::f32}) {
    all.push_back({"one", t, 1, 1, 1, 1, 1, 1, 1, 1, 1});
    all.push_back({"one round", t, 1, 2, 2, 203, 203, 64, 64, 1, 3});
    Case c{"rounds", t, 2, 2, 1, 150, 150, 40, 24, 3, 4};
    c.duplicates = SortedDuplicates::corrected;
    c.self = SortedSelf::lastResort, c.penalty = 1e5;
    all.push_back(c);
    c = {"both ways", t, 1, 1, 1, 131, 131, 128, 100, 2, 2};
    c.causal = false, c.forward = 1, c.self = SortedSelf::hidden;
    all.push_back(c);
    c = {"window", t, 1, 4, 2, 90, 140, 65, 63, 1, 2, SortedPattern::window};
    c.shift = 1, c.pad = 3;
    all.push_back(c);
    all.push_back({"group", t, 1, 2, 2, 70, 190, 72, 128, 2, 3, SortedPattern::group});
    c = {"global", t, 1, 2, 1, 101, 101, 64, 60, 3, 5, SortedPattern::global};
    c.self = SortedSelf::penalised, c.penalty = 5e4;
    all.push_back(c);
    c.duplicates = SortedDuplicates::corrected;
    all.push_back(c);
    c.duplicates = SortedDuplicates::sameRound, c.self = SortedSelf::ordinary;
    all.push_back(c);
    c.duplicates = SortedDuplicates::counted, c.sameGroup = true, c.causal = false;
    all.push_back(c);
    c.duplicates = SortedDuplicates::sameRound;
    all.push_back(c);
    c.duplicates = SortedDuplicates::corrected, c.self = SortedSelf::lastResort, c.penalty = 1e5;
    all.push_back(c);
    c.causal = true, c.d = 96, c.forward = 1, c.self = SortedSelf::hidden;
    all.push_back(c);
    // Its own round around the ends, and a whole ring.
    c.n = c.m = 70, c.rounds = 2, c.groups = 1, c.back = 4, c.chunk = 20, c.causal = false;
    all.push_back(c);
    c.back = 9;
    all.push_back(c);
    // Above 128 dimensions the kernels for f32 compute all types.
    all.push_back({"wide", t, 1, 2, 1, 77, 77, 130, 200, 1, 2});
    c = {"wide rounds", t, 2, 2, 1, 61, 61, 192, 130, 2, 3};
    c.duplicates = SortedDuplicates::corrected, c.causal = false;
    c.self = SortedSelf::lastResort, c.penalty = 1e5;
    all.push_back(c);
    c = {"wide window", t, 1, 4, 2, 33, 50, 133, 256, 1, 2, SortedPattern::window};
    c.shift = 1, c.pad = 3;
    all.push_back(c);
    c = {"wide global", t, 1, 1, 1, 51, 51, 256, 20, 3, 4, SortedPattern::global};
    c.duplicates = SortedDuplicates::corrected;
    all.push_back(c);
  }
  return all;
}

}  // namespace
}  // namespace sorted_test
}  // namespace longspan

int main(int argc, char** argv) {
  using namespace longspan;
  using namespace longspan::sorted_test;
  using namespace longspan::kernel_runs;
  std::vector<std::string> groups(argv + 1, argv + argc);
  if (groups.empty()) groups = {"cases"};
  for (const std::string& group : groups) {
    if (group == "cases") {
      for (const Case& c : cases()) runCase(c);
    } else if (group == "planted" || group == "wide planted") {
      const bool wide = group != "planted";
      const int64_t tokens = wide ? 150 : 300, dim = wide ? 160 : 64;
      for (const DType t : {DType::bf16, DType::f32}) {
        for (const int64_t rounds : {1, 2}) {
          Case c{"planted", t, 1, 1, 1, tokens, tokens, dim, dim, rounds, 1, SortedPattern::group};
          c.self = SortedSelf::hidden;
          runCase(c);
        }
      }
    }
  }
  std::printf("%d failures, %llu launches\n", failures,
              static_cast<unsigned long long>(emulator::launchesSoFar()));
  return failures == 0 ? 0 : 1;
}
