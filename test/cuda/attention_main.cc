// The attention kernels against the naive formula in float64, over ragged shapes, schedules and
// both modes of asynchrony of the emulator. Usage: attention_main
// [forward|decode|backward|planted]...
//
// A result passes when its error is at most twice (gradients: three times) that of the naive
// formula with the same inputs and scores, weights and results rounded to their type; all schedules
// must agree to the bit, no launch may have findings, and no shared-memory matrix load conflicts.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cpp/core/half.h"
#include "cpp/core/thread_pool.h"
#include "cpp/ops/attention/attention.h"
#include "cpp/ops/attention/attention_backward.h"
#include "cpp/ops/attention/attention_decode.h"
#include "cuda/context.h"
#include "test/cuda/control.h"

namespace longspan {

// The CPU's kernels are not linked.
#define LONGSPAN_ABSENT(level)                                                        \
  namespace level {                                                                   \
  Status attention(const ops::Attention&, Context&) { return {}; }                    \
  Status attentionBackward(const ops::AttentionBackward&, Context&) { return {}; }    \
  Status attentionDecode(const ops::AttentionDecode&, Context&) { return {}; }        \
  size_t attentionWorkspace(const ops::Attention&, int) { return 0; }                 \
  size_t attentionBackwardWorkspace(const ops::AttentionBackward&, int) { return 0; } \
  size_t attentionDecodeWorkspace(const ops::AttentionDecode&, int) { return 0; }     \
  }
namespace cpu {
Level level() { return Level::portable; }
LONGSPAN_ABSENT(portable)
LONGSPAN_ABSENT(v3)
LONGSPAN_ABSENT(v4)
}  // namespace cpu

// The backend's, which this program goes without.
Status cuda::statusOf(cudaError_t error) {
  return Status(Code::failed, "launch", cudaGetErrorString(error), cudaGetErrorString(error));
}

namespace {

constexpr double kNone = -std::numeric_limits<double>::infinity();
int failures = 0;

void fail(const std::string& what) {
  ++failures;
  std::printf("FAILED %s\n", what.c_str());
}

double rounded(double x, DType type) {
  if (type == DType::f64) return x;
  const auto narrow = static_cast<float>(x);
  if (type == DType::f16) return toFloat(toF16(narrow));
  if (type == DType::bf16) return toFloat(toBf16(narrow));
  return narrow;
}

// Host values of a tensor, and its copy on the device.
struct Array {
  TensorView view;  // contiguous, on the host in f64
  std::vector<double> values;
  std::vector<std::byte> narrow;
  void* device = nullptr;

  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() {
    if (device != nullptr) cudaFree(device);
  }

  void shape(std::initializer_list<int64_t> dims) {
    view = TensorView::ofShape(DType::f64, dims);
    values.assign(static_cast<size_t>(view.numel()), 0.0);
    view.base = reinterpret_cast<std::byte*>(values.data());
  }
  void random(std::mt19937& generator, DType type) {
    std::normal_distribution<double> normal;
    for (double& x : values) x = rounded(normal(generator), type);
  }
  // The tensor on the device in `type`, its base `shift` elements off alignment, rows `pad`
  // elements further apart.
  TensorView onDevice(DType type, int64_t shift = 0, int64_t pad = 0) {
    TensorView t = view;
    t.dtype = type;
    const int64_t width = view.shape[view.rank - 1], rows = width == 0 ? 0 : view.numel() / width;
    for (int i = 0; i + 1 < view.rank; ++i) t.stride[i] = view.stride[i] / width * (width + pad);
    narrow.assign((static_cast<size_t>(rows * (width + pad) + shift) + 1) * sizeOf(type),
                  std::byte{0xff});
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < width; ++c) {
        put(type, shift + r * (width + pad) + c, values[static_cast<size_t>(r * width + c)]);
      }
    }
    if (device != nullptr) cudaFree(device);
    cudaMalloc(&device, narrow.size());
    cudaMemcpy(device, narrow.data(), narrow.size(), cudaMemcpyHostToDevice);
    t.base = static_cast<std::byte*>(device);
    t.offset = shift;
    return t;
  }
  void put(DType type, int64_t at, double x) {
    const auto value = static_cast<float>(x);
    std::byte* to = narrow.data() + static_cast<size_t>(at) * sizeOf(type);
    const uint16_t bits = type == DType::f16 ? toF16(value).bits : toBf16(value).bits;
    if (type == DType::f32) {
      std::memcpy(to, &value, 4);
    } else {
      std::memcpy(to, &bits, 2);
    }
  }
};

// A fresh output on the device.
struct Output {
  TensorView* view;
  void* device = nullptr;
  explicit Output(TensorView& v) : view(&v) {
    const auto bytes = static_cast<size_t>(v.bytes());
    cudaMalloc(&device, bytes + 16);
    v.base = static_cast<std::byte*>(device);
  }
  ~Output() { cudaFree(device); }
  std::vector<double> read() const {
    std::vector<std::byte> bytes(static_cast<size_t>(view->bytes()));
    cudaMemcpy(bytes.data(), device, bytes.size(), cudaMemcpyDeviceToHost);
    std::vector<double> out(static_cast<size_t>(view->numel()));
    for (size_t i = 0; i < out.size(); ++i) {
      const std::byte* from = bytes.data() + i * sizeOf(view->dtype);
      uint16_t bits;
      float wide;
      std::memcpy(&bits, from, 2);
      if (view->dtype == DType::f32) std::memcpy(&wide, from, 4);
      out[i] = view->dtype == DType::f32   ? wide
               : view->dtype == DType::f16 ? toFloat(f16{bits})
                                           : toFloat(bf16{bits});
    }
    return out;
  }
};

struct Case {
  const char* name;
  DType dtype;
  int64_t b, hq, hkv, n, m, d, dv;
  bool causal = false;
  int64_t left = -1, right = -1;
  double softcap = 0, scale = 0;  // 0: 1 / sqrt(d)
  std::vector<int32_t> keyLengths = {}, queryLengths = {};
  bool tokenMajor = false;
  int64_t shift = 0, pad = 0;

  std::string text() const {
    return std::string(name) + " " + nameOf(dtype) + " n" + std::to_string(n) + " m" +
           std::to_string(m) + " d" + std::to_string(d) + "/" + std::to_string(dv);
  }
};

struct Data {
  Array q, k, v, gradO, gradLse, keyLengths, queryLengths;
  int32_t* lengths = nullptr;

  Data(const Case& c, unsigned seed) {
    std::mt19937 generator(seed);
    const auto make = [&](Array& a, int64_t heads, int64_t tokens, int64_t dim) {
      if (c.tokenMajor) {
        a.shape({c.b, tokens, heads, dim});
      } else {
        a.shape({c.b, heads, tokens, dim});
      }
      a.random(generator, c.dtype);
    };
    make(q, c.hq, c.n, c.d);
    make(k, c.hkv, c.m, c.d);
    make(v, c.hkv, c.m, c.dv);
    make(gradO, c.hq, c.n, c.dv);
    gradLse.shape({c.b, c.hq, c.n});
    gradLse.random(generator, DType::f32);
  }
};

// Lengths in memory of the host or the device.
struct Lengths {
  std::vector<int32_t> values;
  void* device = nullptr;
  TensorView host, onDevice;
  explicit Lengths(const std::vector<int32_t>& x) : values(x) {
    if (x.empty()) return;
    host = TensorView::ofShape(DType::i32, {static_cast<int64_t>(x.size())});
    onDevice = host;
    host.base = reinterpret_cast<std::byte*>(values.data());
    cudaMalloc(&device, x.size() * 4);
    cudaMemcpy(device, x.data(), x.size() * 4, cudaMemcpyHostToDevice);
    onDevice.base = static_cast<std::byte*>(device);
  }
  ~Lengths() {
    if (device != nullptr) cudaFree(device);
  }
};

void options(ops::AttentionProblem& p, const Case& c) {
  p.scale = c.scale != 0 ? c.scale : 1 / std::sqrt(static_cast<double>(c.d));
  p.softcap = c.softcap;
  p.causal = c.causal;
  p.windowLeft = c.left;
  p.windowRight = c.right;
  p.tokenMajor = c.tokenMajor;
}

void check(const Status& status, const std::string& what) {
  if (!status.ok()) fail(what + ": refused");
}

// The naive formula row by row, intermediate results rounded to `type`; also the gradients.
struct Naive {
  std::vector<double> o, lse, gradQ, gradK, gradV;
};

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
  const double scale = c.scale != 0 ? c.scale : 1 / std::sqrt(static_cast<double>(c.d));
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

double errorOf(const std::vector<double>& got, const std::vector<double>& want) {
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (got[i] == want[i]) continue;  // also equal infinities
    const double error = std::fabs(got[i] - want[i]);
    if (!(error <= worst)) worst = std::isnan(error) ? INFINITY : error;
  }
  return worst;
}

void compare(const std::string& what, const std::vector<double>& got,
             const std::vector<double>& truth, const std::vector<double>& rough, double factor,
             DType type) {
  double largest = 0;
  for (const double x : truth) {
    if (std::isfinite(x)) largest = std::max(largest, std::fabs(x));
  }
  const double unit = type == DType::f32 ? 1e-6 : type == DType::f16 ? 4.9e-4 : 3.9e-3;
  const double limit = factor * errorOf(rough, truth) + 2 * unit * largest;
  const double error = errorOf(got, truth);
  if (!(error <= limit)) {
    char text[200];
    std::snprintf(text, sizeof text, ": error %.3g, at most %.3g (naive %.3g, values up to %.3g)",
                  error, limit, errorOf(rough, truth), largest);
    fail(what + text);
  }
}

// Runs the registered GPU kernel of an operator under every schedule; `results` reads the outputs.
template <class P>
std::vector<std::vector<double>> onGpu(P& p, const std::string& what,
                                       std::vector<TensorView*> outputs) {
  static const cuda::Gpu gpu{0, 9, 0, 4, 227 * 1024};
  std::vector<std::vector<double>> first;
  for (int schedule = 0; schedule < 6; ++schedule) {
    auto settings = emulator::settings();
    settings.seed = static_cast<uint64_t>(schedule / 2 + 1);
    settings.lateAsync = schedule % 2 == 0;
    emulator::setSettings(settings);
    std::vector<std::unique_ptr<Output>> memory;
    for (TensorView* t : outputs) memory.push_back(std::make_unique<Output>(*t));
    size_t bytes = 0;
    if (cuda::KernelOf<P>::workspace != nullptr) bytes = cuda::KernelOf<P>::workspace(p, gpu);
    void* workspace = nullptr;
    if (bytes > 0) cudaMalloc(&workspace, bytes);
    cuda::Context context{nullptr, {static_cast<std::byte*>(workspace), bytes}, gpu};
    const uint64_t findings = emulator::failedLaunches();
    const Status status = cuda::KernelOf<P>::run(p, context);
    cudaDeviceSynchronize();
    if (workspace != nullptr) cudaFree(workspace);
    if (!status.ok()) fail(what + ": " + status.detail().remedy);
    if (emulator::failedLaunches() != findings) {
      std::string all;
      for (const std::string& e : emulator::lastLaunch().errors) all += "\n    " + e;
      fail(what + ": findings" + all);
      return {};
    }
    if (emulator::lastLaunch().stats.ldmatrixExtraPhases != 0) fail(what + ": bank conflicts");
    std::vector<std::vector<double>> read;
    for (const auto& m : memory) read.push_back(m->read());
    if (first.empty()) {
      first = read;
      continue;
    }
    for (size_t i = 0; i < read.size(); ++i) {
      if (std::memcmp(first[i].data(), read[i].data(), read[i].size() * sizeof(double)) != 0) {
        fail(what + ": schedules differ");
      }
    }
  }
  return first;
}

void poison(const Case& c, Data& x);

void forward(const Case& c) {
  Data x(c, 1);
  const Naive truth = naive(c, x, DType::f64), rough = naive(c, x, c.dtype);
  poison(c, x);
  Lengths keys(c.keyLengths), queries(c.queryLengths);
  ops::Attention p;
  options(p, c);
  p.withLse = true;
  p.q = x.q.onDevice(c.dtype, c.shift, c.pad);
  p.k = x.k.onDevice(c.dtype, c.shift, c.pad);
  p.v = x.v.onDevice(c.dtype, c.shift, c.pad);
  p.keyLengths = keys.onDevice;
  p.queryLengths = queries.onDevice;
  check(p.validate(), c.text());
  const auto got = onGpu(p, "forward " + c.text(), {&p.o, &p.lse});
  if (got.empty()) return;
  compare("forward o " + c.text(), got[0], truth.o, rough.o, 2, c.dtype);
  compare("forward lse " + c.text(), got[1], truth.lse, rough.lse, 2, DType::f32);

  if (!c.causal || c.n != c.m || !c.keyLengths.empty() || !c.queryLengths.empty()) return;
  // What lies behind a query must not change a bit of it.
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
  const auto other = onGpu(p, "causality " + c.text(), {&p.o, &p.lse});
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

void decode(const Case& c) {
  Data x(c, 2);
  const Naive truth = naive(c, x, DType::f64), rough = naive(c, x, c.dtype);
  poison(c, x);
  Lengths keys(c.keyLengths), queries(c.queryLengths);
  ops::AttentionDecode p;
  options(p, c);
  p.withLse = true;
  p.q = x.q.onDevice(c.dtype, c.shift, c.pad);
  p.k = x.k.onDevice(c.dtype, c.shift, c.pad);
  p.v = x.v.onDevice(c.dtype, c.shift, c.pad);
  p.keyLengths = keys.onDevice;
  p.queryLengths = queries.onDevice;
  check(p.validate(), c.text());
  const auto got = onGpu(p, "decode " + c.text(), {&p.o, &p.lse});
  if (got.empty()) return;
  compare("decode o " + c.text(), got[0], truth.o, rough.o, 2, c.dtype);
  compare("decode lse " + c.text(), got[1], truth.lse, rough.lse, 2, DType::f32);
}

void backward(const Case& c, bool withGradO = true, bool withGradLse = true) {
  Data x(c, 3);
  if (!withGradO) std::fill(x.gradO.values.begin(), x.gradO.values.end(), 0.0);
  if (!withGradLse) std::fill(x.gradLse.values.begin(), x.gradLse.values.end(), 0.0);
  const Naive truth = naive(c, x, DType::f64), rough = naive(c, x, c.dtype);
  Lengths keys(c.keyLengths), queries(c.queryLengths);
  Array o, lse;
  o.view = x.gradO.view;
  o.values = truth.o;
  lse.view = x.gradLse.view;
  lse.values = truth.lse;
  poison(c, x);
  ops::AttentionBackward p;
  options(p, c);
  p.q = x.q.onDevice(c.dtype, c.shift, c.pad);
  p.k = x.k.onDevice(c.dtype, c.shift, c.pad);
  p.v = x.v.onDevice(c.dtype, c.shift, c.pad);
  p.o = o.onDevice(c.dtype);
  p.lse = lse.onDevice(DType::f32);
  if (withGradO) p.gradO = x.gradO.onDevice(c.dtype, c.shift, c.pad);
  if (withGradLse) p.gradLse = x.gradLse.onDevice(DType::f32);
  p.keyLengths = keys.onDevice;
  p.queryLengths = queries.onDevice;
  check(p.validate(), c.text());
  const auto got = onGpu(p, "backward " + c.text(), {&p.gradQ, &p.gradK, &p.gradV});
  if (got.empty()) return;
  compare("gradQ " + c.text(), got[0], truth.gradQ, rough.gradQ, 3, c.dtype);
  compare("gradK " + c.text(), got[1], truth.gradK, rough.gradK, 3, c.dtype);
  compare("gradV " + c.text(), got[2], truth.gradV, rough.gradV, 3, c.dtype);
}

// What lies beyond the lengths is never used.
void poison(const Case& c, Data& x) {
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
  beyond(x.q, c.queryLengths);
  beyond(x.gradO, c.queryLengths);
  beyond(x.gradLse, c.queryLengths);
  beyond(x.k, c.keyLengths);
  beyond(x.v, c.keyLengths);
}

constexpr DType kTypes[] = {DType::f16, DType::bf16, DType::f32};

std::vector<Case> attentionCases() {
  std::vector<Case> cases;
  for (const DType t : kTypes) {
    cases.push_back({"one", t, 1, 1, 1, 1, 1, 1, 1});
    cases.push_back({"full", t, 1, 2, 1, 113, 203, 64, 64});
    cases.push_back({"causal", t, 1, 1, 1, 150, 150, 40, 40, true});
    cases.push_back({"causal, more keys", t, 1, 1, 1, 70, 199, 72, 24, true});
    cases.push_back({"causal, fewer keys", t, 1, 1, 1, 140, 37, 16, 20, true});
    cases.push_back({"causal wide", t, 1, 1, 1, 131, 131, 128, 128, true});
    cases.push_back({"causal widest", t, 1, 1, 1, 70, 70, 256, 250, true});
    cases.push_back({"window", t, 1, 1, 1, 200, 200, 32, 32, false, 20, 5});
    cases.push_back({"causal window", t, 2, 2, 1, 180, 190, 24, 24, true, 33});
    cases.push_back(
        {"lengths", t, 3, 1, 1, 70, 90, 64, 64, true, -1, -1, 0, 0, {90, 17, 0}, {70, 33, 5}});
    cases.push_back({"softcap", t, 1, 1, 1, 40, 70, 64, 64, false, -1, -1, 2.0, 0.5});
    cases.push_back({"negative scale", t, 1, 1, 1, 20, 70, 16, 16, true, -1, -1, 0, -0.7});
    cases.push_back(
        {"token major, groups", t, 2, 4, 2, 50, 66, 48, 32, true, -1, -1, 0, 0, {}, {}, true});
    cases.push_back(
        {"unaligned", t, 1, 2, 1, 33, 75, 65, 63, true, -1, -1, 0, 0, {}, {}, false, 1, 3});
    cases.push_back(
        {"padded rows", t, 1, 1, 1, 65, 65, 60, 61, true, -1, -1, 0, 0, {}, {}, false, 0, 4});
  }
  return cases;
}

std::vector<Case> decodeCases() {
  std::vector<Case> cases;
  for (const DType t : kTypes) {
    cases.push_back({"one token", t, 2, 2, 2, 1, 300, 64, 64, true, -1, -1, 0, 0, {300, 1}});
    cases.push_back({"split", t, 1, 4, 1, 1, 1100, 40, 40, true, -1, -1, 0, 0, {1001}});
    cases.push_back({"split, short", t, 1, 4, 1, 2, 1100, 128, 100, true, -1, -1, 0, 0, {70}});
    cases.push_back(
        {"groups", t, 2, 6, 2, 3, 150, 128, 128, true, -1, -1, 0, 0, {150, 64}, {3, 1}});
    cases.push_back({"many rows", t, 1, 6, 1, 8, 90, 72, 64, true, -1, -1, 0, 0, {90}});
    cases.push_back({"widest", t, 1, 2, 1, 1, 600, 256, 256, true, -1, -1, 0, 0, {599}});
    cases.push_back({"window", t, 1, 2, 1, 2, 1200, 64, 64, true, 700, -1, 0, 0, {1180}});
    cases.push_back({"empty", t, 2, 2, 1, 1, 600, 16, 16, true, -1, -1, 0, 0, {0, 520}});
    cases.push_back({"softcap", t, 1, 1, 1, 1, 80, 16, 16, true, -1, -1, 2.0, 0.5, {77}});
    cases.push_back(
        {"unaligned", t, 1, 2, 1, 1, 80, 33, 35, true, -1, -1, 0, 0, {77}, {}, false, 1, 1});
  }
  return cases;
}

}  // namespace
}  // namespace longspan

int main(int argc, char** argv) {
  using namespace longspan;
  std::vector<std::string> groups(argv + 1, argv + argc);
  if (groups.empty()) groups = {"forward", "decode", "backward"};
  for (const std::string& group : groups) {
    if (group == "forward") {
      for (const Case& c : attentionCases()) forward(c);
    } else if (group == "decode") {
      for (const Case& c : decodeCases()) decode(c);
    } else if (group == "backward") {
      for (const Case& c : attentionCases()) backward(c);
      for (const DType t : kTypes) {
        const Case some{"absent gradients", t, 1, 2, 1, 40, 50, 32, 32, true};
        backward(some, false, true);
        backward(some, true, false);
      }
    } else if (group == "planted") {
      for (const DType t : {DType::bf16, DType::f32}) {
        const Case square{"planted", t, 1, 1, 1, 140, 140, 64, 64};
        forward(square);
        decode({"planted", t, 1, 4, 1, 1, 1100, 128, 128, true, -1, -1, 0, 0, {1001}});
        backward(square);
        backward({"planted wide", t, 1, 1, 1, 70, 70, 256, 256});
      }
    }
  }
  std::printf("%d failures, %llu launches\n", failures,
              static_cast<unsigned long long>(emulator::launchesSoFar()));
  return failures == 0 ? 0 : 1;
}
