#include "cuda/dense/matmul_cublaslt.h"

#include <algorithm>
#include <compare>
#include <map>
#include <mutex>
#include <optional>

#include "cuda/cublaslt.h"

namespace longspan::cuda::matmul {
namespace {

namespace lt = cublaslt;

constexpr size_t kWorkspace = size_t{32} << 20;  // what NVIDIA recommends for sm_90
constexpr uint32_t kAlignment = 16;
constexpr size_t kMostProducts = 4096;  // remembered; later shapes are the plan's
constexpr double kClearly = 0.97;       // of the plan's time; closer is not worth another library

// A product as cuBLASLt sees it. It counts columns first, so that a row-major y is y^T = b^T a^T
// there: its first operand is ours, b, and its rows are our N.
struct Product {
  int gpu;
  DType type;
  int64_t m, n, k, batches;
  bool transposeA, transposeB;  // cuBLASLt's operations on our a and b
  int64_t leadingA, leadingB, strideA, strideB;
  bool bias, relu;
  auto operator<=>(const Product&) const = default;
};

// How a matrix whose element (row, k) lies at row * `row` + k * `along` is named: with k contiguous
// it is k x rows there.
struct Lies {
  bool kFirst;
  int64_t leading;
};
std::optional<Lies> liesOf(const Operand& x, int64_t rows, int64_t k) {
  if (x.k == 1 && rows == 1) return Lies{true, k};
  if (x.k == 1 && x.row >= k) return Lies{true, x.row};
  if (x.row == 1 && x.k >= rows) return Lies{false, x.k};
  return std::nullopt;
}

bool aligned(const TensorView& t) {
  return t.offset * static_cast<int64_t>(sizeOf(t.dtype)) % kAlignment == 0;
}

// Nothing where cuBLASLt cannot express the product, or not with this package's accuracy: f32 sums,
// and f32 operands rounded to tf32 only where that was allowed. Its gelu is another function.
std::optional<Product> productOf(const Plan& plan, const ops::Matmul& p, const Gpu& gpu) {
  const Problem& x = plan.problem;
  if (p.a.dtype == DType::f32 && !p.allowTf32) return std::nullopt;
  if (x.sums != 1 || x.k == 0 || x.batch.rank > 1 || p.preactivation.defined()) return std::nullopt;
  if (plan.packsA || plan.packsB || !x.a.vectors || !x.b.vectors) return std::nullopt;
  if (p.activation != ops::Activation::none && p.activation != ops::Activation::relu) {
    return std::nullopt;
  }
  if (p.bias.defined() && ((p.bias.stride[0] != 1 && x.n > 1) || !aligned(p.bias)))
    return std::nullopt;
  const auto a = liesOf(x.a, x.m, x.k), b = liesOf(x.b, x.n, x.k);
  if (!a || !b) return std::nullopt;
  if (std::max({x.m, x.n, x.k, a->leading, b->leading}) > 0x7fffffff) return std::nullopt;
  Product out{gpu.index,
              p.a.dtype,
              x.m,
              x.n,
              x.k,
              x.batches,
              !a->kFirst,
              b->kFirst,
              a->leading,
              b->leading,
              0,
              0,
              p.bias.defined(),
              p.activation == ops::Activation::relu};
  if (x.batch.rank == 1) out.strideA = x.batch.axis[0].a, out.strideB = x.batch.axis[0].b;
  if (out.strideA < 0 || out.strideB < 0) return std::nullopt;
  return out;
}

enum class Choice { unknown, plan, cublasLt };

// A product that was met, ready to be launched.
struct Entry {
  Choice choice = Choice::unknown;
  std::string why;  // cuBLASLt cannot: its words, if it is more than that it does not support this
  lt::Descriptor descriptor = nullptr;
  lt::Layout a = nullptr, b = nullptr, y = nullptr;
  lt::Heuristic heuristic{};
};

// Kept for the life of the process, as the device is.
struct Known {
  std::mutex mutex;  // also over calls of the library: a descriptor holds the call's bias
  std::map<int, lt::Handle> handles;
  std::map<Product, Entry> entries;
};
Known& known() {
  static Known* k = new Known;
  return *k;
}

// The first failure of a row of calls.
class Calls {
 public:
  void operator()(const char* call, int status) {
    if (status_ == lt::kSuccess && status != lt::kSuccess) call_ = call, status_ = status;
  }
  template <class Set, class Object, class Attribute, class V>
  void set(const char* call, Set* set, Object object, Attribute attribute, V value) {
    if (ok()) (*this)(call, set(object, attribute, &value, sizeof value));
  }
  bool ok() const { return status_ == lt::kSuccess; }
  bool unsupported() const { return status_ == lt::kNotSupported; }
  std::string why() const { return lt::failure(call_, status_); }

 private:
  const char* call_ = "";
  int status_ = lt::kSuccess;
};

lt::DataType dataTypeOf(DType type) {
  return type == DType::f32 ? lt::kR32F : type == DType::f16 ? lt::kR16F : lt::kR16BF;
}

void describe(const Product& p, const lt::Library& lib, lt::Handle handle, Entry& e) {
  Calls calls;
  const lt::DataType type = dataTypeOf(p.type);
  calls("cublasLtMatmulDescCreate",
        lib.descriptorCreate(&e.descriptor,
                             p.type == DType::f32 ? lt::kCompute32FFastTf32 : lt::kCompute32F,
                             lt::kR32F));
  const auto describe = [&](lt::DescriptorAttribute attribute, auto value) {
    calls.set("cublasLtMatmulDescSetAttribute", lib.descriptorSet, e.descriptor, attribute, value);
  };
  describe(lt::kTransA, p.transposeB ? lt::kTranspose : lt::kNone);
  describe(lt::kTransB, p.transposeA ? lt::kTranspose : lt::kNone);
  describe(lt::kEpilogue, p.bias   ? p.relu ? lt::kReluBias : lt::kBias
                          : p.relu ? lt::kRelu
                                   : lt::kDefault);
  const auto layout = [&](lt::Layout* out, int64_t rows, int64_t columns, int64_t leading,
                          int64_t stride) {
    if (!calls.ok()) return;
    calls("cublasLtMatrixLayoutCreate", lib.layoutCreate(out, type, static_cast<uint64_t>(rows),
                                                         static_cast<uint64_t>(columns), leading));
    if (p.batches == 1) return;
    const char* call = "cublasLtMatrixLayoutSetAttribute";
    calls.set(call, lib.layoutSet, *out, lt::kBatchCount, static_cast<int32_t>(p.batches));
    calls.set(call, lib.layoutSet, *out, lt::kStridedBatchOffset, stride);
  };
  layout(&e.b, p.transposeB ? p.k : p.n, p.transposeB ? p.n : p.k, p.leadingB, p.strideB);
  layout(&e.a, p.transposeA ? p.m : p.k, p.transposeA ? p.k : p.m, p.leadingA, p.strideA);
  layout(&e.y, p.n, p.m, p.n, p.m * p.n);

  lt::Preference preference = nullptr;
  if (calls.ok()) calls("cublasLtMatmulPreferenceCreate", lib.preferenceCreate(&preference));
  const auto prefer = [&](lt::PreferenceAttribute attribute, auto value) {
    calls.set("cublasLtMatmulPreferenceSetAttribute", lib.preferenceSet, preference, attribute,
              value);
  };
  prefer(lt::kMaxWorkspaceBytes, uint64_t{kWorkspace});
  prefer(lt::kReductionSchemeMask, lt::kReduceInComputeType);
  for (const auto operand :
       {lt::kMinAlignmentA, lt::kMinAlignmentB, lt::kMinAlignmentC, lt::kMinAlignmentD}) {
    prefer(operand, kAlignment);
  }
  int found = 0;
  if (calls.ok()) {
    calls("cublasLtMatmulAlgoGetHeuristic", lib.heuristic(handle, e.descriptor, e.b, e.a, e.y, e.y,
                                                          preference, 1, &e.heuristic, &found));
  }
  if (calls.ok()) {
    calls("cublasLtMatmulAlgoGetHeuristic", found == 0 ? lt::kNotSupported : e.heuristic.status);
  }
  if (preference != nullptr) lib.preferenceDestroy(preference);
  if (calls.ok()) return;
  e.choice = Choice::plan;
  if (!calls.unsupported()) e.why = calls.why();
}

// What is known of the product, at first from its description alone. The lock is held.
Entry& entryOf(const Product& product, const lt::Library& lib) {
  Known& k = known();
  const auto [place, isNew] = k.entries.try_emplace(product);
  Entry& e = place->second;
  if (!isNew) return e;
  lt::Handle& handle = k.handles[product.gpu];
  if (handle == nullptr) {
    if (const int status = lib.create(&handle); status != lt::kSuccess) {
      handle = nullptr;
      e.choice = Choice::plan;
      e.why = lt::failure("cublasLtCreate", status);
      return e;
    }
  }
  describe(product, lib, handle, e);
  if (e.choice == Choice::unknown && lt::use() == lt::Use::on) e.choice = Choice::cublasLt;
  return e;
}

// The product by cuBLASLt; empty, or what failed.
std::string compute(const Product& product, Entry& e, const lt::Library& lib, const ops::Matmul& p,
                    Context& context) {
  Calls calls;
  if (product.bias) {
    calls.set("cublasLtMatmulDescSetAttribute", lib.descriptorSet, e.descriptor, lt::kBiasPointer,
              addressOf(p.bias));
  }
  const float one = 1, zero = 0;
  std::byte* const y = p.y.data<std::byte>();  // without an offset, being new
  if (calls.ok()) {
    calls("cublasLtMatmul",
          lib.matmul(known().handles[product.gpu], e.descriptor, &one, addressOf(p.b), e.b,
                     addressOf(p.a), e.a, &zero, y, e.y, y, e.y, &e.heuristic.algorithm,
                     context.workspace.data, context.workspace.bytes, context.stream));
  }
  return calls.ok() ? "" : calls.why();
}

struct Events {
  cudaEvent_t begin = nullptr, end = nullptr;
  ~Events() {
    if (begin != nullptr) cudaEventDestroy(begin);
    if (end != nullptr) cudaEventDestroy(end);
  }
};

// Milliseconds of `times` runs.
template <class Run>
Status timed(Events& events, cudaStream_t stream, int times, Run run, float* milliseconds) {
  LONGSPAN_RETURN_IF_ERROR(statusOf(cudaEventRecord(events.begin, stream)));
  for (int i = 0; i < times; ++i) LONGSPAN_RETURN_IF_ERROR(run());
  LONGSPAN_RETURN_IF_ERROR(statusOf(cudaEventRecord(events.end, stream)));
  LONGSPAN_RETURN_IF_ERROR(statusOf(cudaEventSynchronize(events.end)));
  return statusOf(cudaEventElapsedTime(milliseconds, events.begin, events.end));
}

// Runs both in turn, several times in a row each, and compares the best of their rounds. The first
// round loads code and does not count. A product that fails over there is the plan's.
Status race(const Plan& plan, const Product& product, Entry& e, const lt::Library& lib,
            const ops::Matmul& p, Context& context) {
  constexpr int kRounds = 4;
  constexpr float kRoundMilliseconds = 1;
  Events events;
  LONGSPAN_RETURN_IF_ERROR(statusOf(cudaEventCreate(&events.begin)));
  LONGSPAN_RETURN_IF_ERROR(statusOf(cudaEventCreate(&events.end)));
  std::string failed;
  const auto theirs = [&] {
    failed = compute(product, e, lib, p, context);
    return failed.empty() ? Status() : Status(Code::failed, "", failed, "");
  };
  const auto ours = [&] { return runPlan(plan, p, context); };
  float best[2] = {}, milliseconds = 0;
  int times = 1;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < 2; ++i) {
      const Status status = i == 0 ? timed(events, context.stream, times, ours, &milliseconds)
                                   : timed(events, context.stream, times, theirs, &milliseconds);
      if (!failed.empty()) {
        e.choice = Choice::plan;
        e.why = failed;
        return {};
      }
      LONGSPAN_RETURN_IF_ERROR(status);
      const float each = milliseconds / static_cast<float>(times);
      best[i] = round <= 1 ? each : std::min(best[i], each);
    }
    if (round == 0) {
      const float longer = std::max({best[0], best[1], 1e-3f});
      times = std::clamp(static_cast<int>(kRoundMilliseconds / longer), 1, 20);
    }
  }
  e.choice = best[1] < kClearly * best[0] ? Choice::cublasLt : Choice::plan;
  return {};
}

bool recording(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream, &status) == cudaSuccess &&
         status != cudaStreamCaptureStatusNone;
}

}  // namespace

size_t cublasLtWorkspace(const Plan& plan, const ops::Matmul& p, const Gpu& gpu) {
  if (lt::use() == lt::Use::off) return 0;
  const auto product = productOf(plan, p, gpu);
  if (!product || lt::library() == nullptr) return 0;
  Known& k = known();
  const std::lock_guard<std::mutex> lock(k.mutex);
  const auto found = k.entries.find(*product);
  if (found == k.entries.end()) return k.entries.size() < kMostProducts ? kWorkspace : 0;
  const Entry& e = found->second;
  return e.choice == Choice::plan       ? 0
         : e.choice == Choice::cublasLt ? e.heuristic.workspaceBytes
                                        : kWorkspace;
}

Status runCublasLt(const Plan& plan, const ops::Matmul& p, Context& context, bool* done) {
  const lt::Use use = lt::use();
  if (use == lt::Use::off) return {};
  const lt::Library* lib = lt::library();
  if (lib == nullptr) {
    if (use == lt::Use::automatic) return {};
    return Status(Code::unavailable, "LONGSPAN_CUBLASLT", "on",
                  lt::whyNone() +
                      "; name its file in "
                      "LONGSPAN_CUBLASLT_LIBRARY, or use auto or off");
  }
  const auto product = productOf(plan, p, context.gpu);
  if (!product) return {};
  Known& k = known();
  const std::lock_guard<std::mutex> lock(k.mutex);
  if (k.entries.size() >= kMostProducts && !k.entries.contains(*product)) return {};
  Entry& e = entryOf(*product, *lib);
  const auto failed = [](const std::string& why) {
    return Status(Code::failed, "", why,
                  "LONGSPAN_CUBLASLT=off computes the same by this package's own kernels");
  };
  if (!e.why.empty() && use == lt::Use::on) return failed(e.why);
  if (e.choice == Choice::unknown) {
    if (recording(context.stream)) return {};
    LONGSPAN_RETURN_IF_ERROR(race(plan, *product, e, *lib, p, context));
  }
  if (e.choice == Choice::plan) return {};
  const std::string why = compute(*product, e, *lib, p, context);
  if (!why.empty()) return failed(why);
  *done = true;
  return {};
}

}  // namespace longspan::cuda::matmul
