// The attention kernels against the naive formula in float64, over ragged shapes, schedules and
// both modes of asynchrony of the emulator. Usage: attention_main
// [forward|hopper|decode|backward|planted|hopper planted]...
//
// A result passes when its error is at most twice (gradients: three times) that of the naive
// formula with the same inputs and scores, weights and results rounded to their type; all schedules
// must agree to the bit, no launch may have findings, and no shared-memory matrix load conflicts.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cpp/ops/attention/attention.h"
#include "cpp/ops/attention/attention_backward.h"
#include "cpp/ops/attention/attention_bias_backward.h"
#include "cpp/ops/attention/attention_decode.h"
#include "cuda/context.h"
#include "test/cuda/attention_case.h"
#include "test/cuda/kernel_runs.h"

namespace longspan {

// The CPU's kernels are not linked.
#define LONGSPAN_ABSENT(level)                                                                \
  namespace level {                                                                           \
  Status attention(const ops::Attention&, Context&) { return {}; }                            \
  Status attentionBackward(const ops::AttentionBackward&, Context&) { return {}; }            \
  Status attentionBiasBackward(const ops::AttentionBiasBackward&, Context&) { return {}; }    \
  size_t attentionBiasBackwardWorkspace(const ops::AttentionBiasBackward&, int) { return 0; } \
  Status attentionDecode(const ops::AttentionDecode&, Context&) { return {}; }                \
  size_t attentionWorkspace(const ops::Attention&, int) { return 0; }                         \
  size_t attentionBackwardWorkspace(const ops::AttentionBackward&, int) { return 0; }         \
  size_t attentionDecodeWorkspace(const ops::AttentionDecode&, int) { return 0; }             \
  }
namespace cpu {
Level level() { return Level::portable; }
LONGSPAN_ABSENT(portable)
LONGSPAN_ABSENT(v3)
LONGSPAN_ABSENT(v4)
}  // namespace cpu

namespace attention_test {
namespace {

using namespace kernel_runs;

// The integers that a case gives, on the device.
struct Integers {
  Lengths keys, queries, prefixes, cuQ, cuK, querySegments, keySegments, state;
  explicit Integers(const Case& c)
      : keys(c.keyLengths),
        queries(c.queryLengths),
        prefixes(c.prefixLengths),
        cuQ(c.cuSeqlensQ),
        cuK(c.cuSeqlensK),
        querySegments(c.querySegments, c.b),
        keySegments(c.keySegments, c.b),
        state(kDropoutState) {}
};

// The options, operands and integers of an operator, which live as long as `x` and `integers`.
template <class P>
void place(P& p, const Case& c, Data& x, const Integers& integers) {
  p.scale = c.factor();
  p.softcap = c.softcap;
  p.causal = c.causal;
  p.windowLeft = c.left;
  p.windowRight = c.right;
  p.tokenMajor = c.tokenMajor;
  p.q = x.q.onDevice(c.dtype, c.shift, c.pad);
  p.k = x.k.onDevice(c.dtype, c.shift, c.pad);
  p.v = x.v.onDevice(c.dtype, c.shift, c.pad);
  p.keyLengths = integers.keys.onDevice;
  p.queryLengths = integers.queries.onDevice;
  p.prefixLengths = integers.prefixes.onDevice;
  p.cuSeqlensQ = integers.cuQ.onDevice;
  p.cuSeqlensK = integers.cuK.onDevice;
  p.querySegments = integers.querySegments.onDevice;
  p.keySegments = integers.keySegments.onDevice;
  if (!c.bias.empty()) p.bias = x.bias.onDevice(c.wideBias ? DType::f32 : c.dtype, 0, c.pad);
  if (c.alibi) p.alibiSlopes = x.slopes.onDevice(DType::f32);
  if (c.sinks) p.sinks = x.sinks.onDevice(DType::f32);
  p.dropout = c.dropout;
  if (c.dropout > 0) p.dropoutState = integers.state.onDevice;
}

// What lies behind a query must not change a bit of it: `got` with other keys and values there.
void causality(const Case& c, Data& x, ops::Attention& p, int capability,
               const std::vector<std::vector<double>>& got) {
  const int64_t cut = c.n / 2;
  for (Array* a : {&x.k, &x.v}) {
    const int64_t width = a->view.shape[3], heads = c.tokenMajor ? c.hkv : 1;
    const int64_t per = c.m * width * heads;
    for (size_t i = 0; i < a->values.size(); ++i) {
      if (static_cast<int64_t>(i) % per / (width * heads) > cut) a->values[i] = 30.0;
    }
  }
  p.k = x.k.onDevice(c.dtype, c.shift, c.pad);
  p.v = x.v.onDevice(c.dtype, c.shift, c.pad);
  const auto other = onGpu(p, "causality " + c.text(), {&p.o, &p.lse}, capability);
  if (other.empty()) return;
  for (size_t i = 0; i < other[1].size(); ++i) {
    if (static_cast<int64_t>(i) % c.n <= cut && other[1][i] != got[1][i]) {
      return fail("causality " + c.text());
    }
  }
  const int64_t heads = c.tokenMajor ? c.hq : 1, per = c.n * c.dv * heads;
  for (size_t i = 0; i < other[0].size(); ++i) {
    if (static_cast<int64_t>(i) % per / (c.dv * heads) <= cut && other[0][i] != got[0][i]) {
      return fail("causality " + c.text());
    }
  }
}

void forward(const Case& c, int capability, int seeds = 3) {
  if (c.dtype != DType::f32 && !hasCode(capability)) return;
  Data x(c, 1);
  const Naive truth = naive(c, x, DType::f64), rough = naive(c, x, c.dtype);
  x.poison(c);
  const Integers integers(c);
  ops::Attention p;
  place(p, c, x, integers);
  p.withLse = true;
  check(p.validate(), c.text());
  const std::string what = " sm_" + std::to_string(capability) + " " + c.text();
  const auto got = onGpu(p, "forward" + what, {&p.o, &p.lse}, capability, seeds);
  if (got.empty()) return;
  compare("forward o" + what, got[0], truth.o, rough.o, 2, c.dtype);
  compare("forward lse" + what, got[1], truth.lse, rough.lse, 2, DType::f32);
  if (c.causal && c.n == c.m && c.keyLengths.empty() && c.queryLengths.empty() && !c.packed() &&
      c.prefixLengths.empty()) {
    causality(c, x, p, capability, got);
  }
}

// 16-bit operands have kernels of their own on sm_90a.
void forward(const Case& c) {
  forward(c, 80);
  if (c.dtype != DType::f32) forward(c, 90);
}

// Keys or values of a case in pages, the last page first, between two pages of NaN; and the table
// that finds them there.
void toPages(const Case& c, const Array& from, Array& to) {
  const int64_t width = from.view.shape[3], each = (c.m + c.pageSize - 1) / c.pageSize;
  const int64_t pages = c.b * each + 2;
  to.shape({pages, c.hkv, c.pageSize, width});
  std::fill(to.values.begin(), to.values.end(), NAN);
  for (int64_t i = 0; i < c.b * c.hkv * c.m; ++i) {
    const int64_t j = i % c.m, h = i / c.m % c.hkv, b = i / c.m / c.hkv;
    const int64_t page = pages - 2 - (b * each + j / c.pageSize);
    std::copy_n(from.values.begin() + i * width, width,
                to.values.begin() + ((page * c.hkv + h) * c.pageSize + j % c.pageSize) * width);
  }
}
std::vector<int32_t> pageTable(const Case& c) {
  if (c.pageSize == 0) return {};
  const int64_t each = (c.m + c.pageSize - 1) / c.pageSize;
  std::vector<int32_t> table(static_cast<size_t>(c.b * each));
  for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(table.size() - i);
  return table;
}

void decode(const Case& c) {
  Data x(c, 2);
  const Naive truth = naive(c, x, DType::f64), rough = naive(c, x, c.dtype);
  x.poison(c);
  const Integers integers(c);
  ops::AttentionDecode p;
  place(p, c, x, integers);
  Array keys, values;
  const Lengths table(pageTable(c), c.b);
  if (c.pageSize > 0) {
    toPages(c, x.k, keys);
    toPages(c, x.v, values);
    p.k = keys.onDevice(c.dtype, c.shift, c.pad);
    p.v = values.onDevice(c.dtype, c.shift, c.pad);
    p.pageTable = table.onDevice;
  }
  p.splits = c.splits;
  p.withLse = true;
  check(p.validate(), c.text());
  const auto got = onGpu(p, "decode " + c.text(), {&p.o, &p.lse});
  if (got.empty()) return;
  compare("decode o " + c.text(), got[0], truth.o, rough.o, 2, c.dtype);
  compare("decode lse " + c.text(), got[1], truth.lse, rough.lse, 2, DType::f32);
}

void backward(const Case& c, int capability, int seeds = 3, bool withGradO = true,
              bool withGradLse = true) {
  if (c.dtype != DType::f32 && !hasCode(capability)) return;
  Data x(c, 3);
  if (!withGradO) std::fill(x.gradO.values.begin(), x.gradO.values.end(), 0.0);
  if (!withGradLse) std::fill(x.gradLse.values.begin(), x.gradLse.values.end(), 0.0);
  const Naive truth = naive(c, x, DType::f64), rough = naive(c, x, c.dtype);
  const Integers integers(c);
  Array o, lse;
  o.view = x.gradO.view;
  o.values = truth.o;
  lse.view = x.gradLse.view;
  lse.values = truth.lse;
  x.poison(c);
  ops::AttentionBackward p;
  place(p, c, x, integers);
  p.o = o.onDevice(c.dtype);
  p.lse = lse.onDevice(DType::f32);
  if (withGradO) p.gradO = x.gradO.onDevice(c.dtype, c.shift, c.pad);
  if (withGradLse) p.gradLse = x.gradLse.onDevice(DType::f32);
  p.withGradSinks = c.sinks;
  ops::AttentionBiasBackward bias;
  static_cast<ops::AttentionGradientProblem&>(bias) = p;
  check(p.validate(), c.text());
  std::vector<TensorView*> outputs = {&p.gradQ, &p.gradK, &p.gradV};
  if (c.sinks) outputs.push_back(&p.gradSinks);
  const auto got = onGpu(p, "backward " + c.text(), outputs, capability, seeds);
  if (got.empty()) return;
  compare("gradQ " + c.text(), got[0], truth.gradQ, rough.gradQ, 3, c.dtype);
  compare("gradK " + c.text(), got[1], truth.gradK, rough.gradK, 3, c.dtype);
  compare("gradV " + c.text(), got[2], truth.gradV, rough.gradV, 3, c.dtype);
  if (c.sinks) {
    compare("gradSinks " + c.text(), got[3], truth.gradSinks, rough.gradSinks, 3, c.dtype);
  }
  if (c.bias.empty() || (capability == 90 && hasCode(80))) return;  // one kernel for all
  check(bias.validate(), c.text());
  const auto gradBias = onGpu(bias, "bias backward " + c.text(), {&bias.gradBias});
  if (gradBias.empty()) return;
  compare("gradBias " + c.text(), gradBias[0], truth.gradBias, rough.gradBias, 3, c.dtype);
}

void backward(const Case& c) {
  backward(c, 80);
  if (c.dtype != DType::f32) backward(c, 90);
}

}  // namespace
}  // namespace attention_test
}  // namespace longspan

int main(int argc, char** argv) {
  using namespace longspan;
  using namespace longspan::attention_test;
  using namespace longspan::kernel_runs;
  std::vector<std::string> groups(argv + 1, argv + argc);
  if (groups.empty()) groups = {"forward", "hopper", "decode", "backward"};
  for (const std::string& group : groups) {
    if (group == "forward") {
      for (const Case& c : attentionCases()) forward(c);
      for (const Case& c : featureCases()) forward(c);
    } else if (group == "decode") {
      for (const Case& c : decodeCases()) decode(c);
    } else if (group == "backward") {
      for (const Case& c : attentionCases()) backward(c);
      for (const Case& c : featureCases()) backward(c);
      for (const DType t : kTypes) {
        const Case some{"absent gradients", t, 1, 2, 1, 40, 50, 32, 32, true};
        for (const int capability : {80, 90}) {
          backward(some, capability, 3, false, true);
          backward(some, capability, 3, true, false);
        }
      }
    } else if (group == "hopper") {
      for (const Case& c : hopperCases()) {
        forward(c, 90, 20);
        backward(c, 90, 10);
      }
    } else if (group == "hopper planted") {
      forward({"planted", DType::bf16, 1, 1, 1, 200, 500, 64, 64}, 90);
      Case wide{"planted", DType::bf16, 1, 1, 1, 140, 450, 128, 128, true};
      wide.keyLengths = {420};
      forward(wide, 90);
      wide.n = 150, wide.causal = false, wide.queryLengths = {130};
      forward(wide, 90);
      backward({"planted", DType::bf16, 1, 1, 1, 500, 420, 64, 64, true}, 90);
      wide.n = 400, wide.queryLengths = {390}, wide.m = 300, wide.keyLengths = {290};
      backward(wide, 90);
    } else if (group == "planted") {
      for (const DType t : {DType::bf16, DType::f32}) {
        const Case square{"planted", t, 1, 1, 1, 140, 140, 64, 64};
        forward(square);
        Case cached{"planted", t, 1, 4, 1, 1, 1100, 128, 128, true, -1, -1, 0, 0, {1001}};
        decode(cached);
        cached.pageSize = 7;
        decode(cached);
        backward(square, 80);
        backward({"planted wide", t, 1, 1, 1, 70, 70, 256, 256}, 80);
        for (const int64_t lengths : {1, 70}) {
          Case terms{"planted terms", t, 1, 2, 2, 70, 70, 70, 70};
          terms.bias = {1, 2, lengths, lengths};
          terms.sinks = true;
          backward(terms, 80);
        }
      }
    }
  }
  std::printf("%d failures, %llu launches\n", failures,
              static_cast<unsigned long long>(emulator::launchesSoFar()));
  return failures == 0 ? 0 : 1;
}
