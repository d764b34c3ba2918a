// matmul's kernels on the emulator: every tile, layout and part of K over ragged shapes, against
// float64; several schedules, copies that land late and at random times; no report tolerated. And
// which kernels are planned for which GPUs.
//
//   matmul_main [NAME]   all cases, or those of that name; exit code 1 on any failure, a line for
//   each
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numbers>
#include <random>
#include <string>

#include "test/cuda/control.h"
#include "test/cuda/device_array.h"
#include "test/cuda/matmul_case.h"

namespace longspan::cuda {

// The backend's own is part of its device; here a failed launch shows what the emulator found.
Status statusOf(cudaError_t error) {
  if (error == cudaSuccess) return {};
  std::string text = cudaGetErrorString(error);
  for (const std::string& line : emulator::lastLaunch().errors) text += "\n  " + line;
  return Status(Code::failed, "", text, "");
}

}  // namespace longspan::cuda

// The CPU's kernels are not linked.
namespace longspan::cpu {
Level level() { return Level::portable; }
namespace portable {
Status matmul(const ops::Matmul&, Context&) { return {}; }
}  // namespace portable
namespace v3 {
Status matmul(const ops::Matmul&, Context&) { return {}; }
}  // namespace v3
namespace v4 {
Status matmul(const ops::Matmul&, Context&) { return {}; }
}  // namespace v4
}  // namespace longspan::cpu

namespace longspan::matmul_test {
namespace {

struct Memory {
  std::vector<void*> blocks;
  ~Memory() {
    for (void* p : blocks) cudaFree(p);
  }
  std::byte* take(size_t bytes) {
    void* p = nullptr;
    if (cudaMalloc(&p, bytes + 16) != cudaSuccess) std::abort();
    blocks.push_back(p);
    return static_cast<std::byte*>(p);
  }
};

// A matrix [batches, sums, rows, k] on the device, in the given layout, with its values.
struct Matrix {
  TensorView view;
  std::vector<double> values;  // row-major [batches, sums, rows, k]
};

Matrix makeMatrix(Memory& memory, std::mt19937& random, DType type, Layout layout, int64_t batches,
                  int64_t sums, int64_t rows, int64_t k) {
  Matrix out;
  TensorView& v = out.view;
  v.dtype = type;
  v.rank = 4;
  v.shape = {batches, sums, rows, k};
  v.offset = layout.shift;
  const int64_t gap = layout.order == Layout::neither ? 2 : 1;
  const int64_t fast = layout.order == Layout::rows ? rows : k;
  const int64_t line = fast * gap + layout.pad;
  v.stride[2] = layout.order == Layout::rows ? gap : line;
  v.stride[3] = layout.order == Layout::rows ? line : gap;
  v.stride[1] = line * (layout.order == Layout::rows ? k : rows);
  v.stride[0] = v.stride[1] * sums;
  const int64_t all = layout.shift + v.stride[0] * batches;
  std::vector<std::byte> host(static_cast<size_t>(all) * sizeOf(type), std::byte{0xff});  // NaN
  std::normal_distribution<float> normal;
  for (int64_t b = 0; b < batches * sums; ++b) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < k; ++i) {
        const auto at =
            static_cast<size_t>(v.offset + b * v.stride[1] + r * v.stride[2] + i * v.stride[3]);
        putElement(host, at, type, normal(random));
        out.values.push_back(getElement(host, at, type));
      }
    }
  }
  v.base = memory.take(host.size());
  cudaMemcpy(v.base, host.data(), host.size(), cudaMemcpyHostToDevice);
  return out;
}

double applied(ops::Activation f, double x) {
  switch (f) {
    case ops::Activation::relu:
      return x > 0 ? x : 0;
    case ops::Activation::gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case ops::Activation::geluTanh:
      return x / (1 + std::exp(-std::sqrt(8 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case ops::Activation::silu:
      return x / (1 + std::exp(-x));
    case ops::Activation::reluSquared:
      return x > 0 ? x * x : 0;
    default:
      return x;
  }
}

std::vector<std::byte> read(const TensorView& v) {
  std::vector<std::byte> host(static_cast<size_t>(v.bytes()));
  cudaMemcpy(host.data(), v.base, host.size(), cudaMemcpyDeviceToHost);
  return host;
}

// Empty, or what is wrong.
std::string run(const Case& c, unsigned seed) {
  Memory memory;
  std::mt19937 random(seed);
  Matrix a = makeMatrix(memory, random, c.type, c.a, c.batches, c.sums, c.m, c.k);
  Matrix b =
      makeMatrix(memory, random, c.type, c.b, c.broadcastB ? 1 : c.batches, c.sums, c.n, c.k);
  ops::Matmul p;
  p.a = a.view, p.b = b.view;
  p.transposeB = true;
  if (c.batches > 1 || c.sums > 1) p.summed = {1};
  if (c.bias) p.bias = makeMatrix(memory, random, c.type, {}, 1, 1, 1, c.n).view;
  std::vector<double> bias(static_cast<size_t>(c.n));
  if (c.bias) {
    const std::vector<std::byte> host = read(p.bias);
    for (size_t j = 0; j < bias.size(); ++j) bias[j] = getElement(host, j, c.type);
    p.bias.rank = 1, p.bias.shape[0] = c.n, p.bias.stride[0] = 1;
  }
  p.activation = c.activation;
  p.keepPreactivation = c.keep;
  p.allowTf32 = c.kernel == Kernel::tf32;
  if (Status s = p.validate(); !s.ok()) return s.detail().field + ": " + s.detail().remedy;
  for (TensorView* out : {&p.y, &p.preactivation}) {
    if (out->defined()) out->base = memory.take(static_cast<size_t>(out->bytes()));
  }

  // So few multiprocessors that blocks which stay on theirs walk over several tiles.
  const cuda::Gpu gpu{0, c.kernel == Kernel::wgmma ? 9 : 8, 0, 2, 232448};
  mm::Plan plan = mm::planOf(p, gpu);
  if (c.pack != (plan.packsA || plan.packsB)) return "planned another packing";
  plan.kernel = c.kernel;
  plan.tile = c.tile;
  plan.problem.splits = c.splits;
  plan.partial = static_cast<size_t>(c.splits * c.batches * c.m * c.n * 4);
  std::byte* scratch = memory.take(plan.workspace());
  cuda::Context context{nullptr, {scratch, plan.workspace()}, gpu};
  if (Status s = mm::runPlan(plan, p, context); !s.ok()) return s.detail().value;
  if (const uint64_t conflicts = emulator::lastLaunch().stats.ldmatrixExtraPhases) {
    return std::to_string(conflicts) + " extra phases of ldmatrix";
  }

  const std::vector<std::byte> y = read(p.y);
  const std::vector<std::byte> pre = c.keep ? read(p.preactivation) : y;
  const double rounding = c.type == DType::f32 ? 1e-6 : c.type == DType::f16 ? 0x1p-11 : 0x1p-8;
  const double summing = c.kernel == Kernel::tf32 ? 0x1p-10 : 4e-6;
  for (int64_t z = 0; z < c.batches; ++z) {
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) {
        double sum = bias[static_cast<size_t>(j)], size = std::abs(sum);
        for (int64_t s = 0; s < c.sums; ++s) {
          const int64_t zb = c.broadcastB ? s : z * c.sums + s;
          const double* x = &a.values[static_cast<size_t>(((z * c.sums + s) * c.m + i) * c.k)];
          const double* w = &b.values[static_cast<size_t>((zb * c.n + j) * c.k)];
          for (int64_t k = 0; k < c.k; ++k) sum += x[k] * w[k], size += std::abs(x[k] * w[k]);
        }
        const auto at = static_cast<size_t>((z * c.m + i) * c.n + j);
        const auto check = [&](double actual, double expected) {
          return std::abs(actual - expected) <= rounding * std::abs(expected) + summing * size;
        };
        const double value = getElement(y, at, c.type);
        const bool right = check(value, applied(c.activation, sum)) &&
                           (!c.keep || check(getElement(pre, at, c.type), sum));
        if (!right) {
          return "y[" + std::to_string(z) + ", " + std::to_string(i) + ", " + std::to_string(j) +
                 "] = " + std::to_string(value) + ", not " +
                 std::to_string(applied(c.activation, sum));
        }
      }
    }
  }
  return "";
}

}  // namespace
}  // namespace longspan::matmul_test

int main(int argc, char** argv) {
  using namespace longspan;
  using namespace longspan::matmul_test;
  const std::vector<Case> all = cases();
  int ran = 0;
  int failures = 0;
  if (const std::string wrong = checkPlans(); !wrong.empty()) {
    ++failures;
    std::fputs(wrong.c_str(), stdout);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    if (argc > 1 && std::strcmp(argv[1], all[i].name) != 0) continue;
    ++ran;
    for (unsigned seed = 0; seed < 3; ++seed) {
      emulator::Settings settings = emulator::settings();
      settings.seed = seed;
      settings.lateAsync = seed != 1;
      emulator::setSettings(settings);
      const std::string wrong = run(all[i], seed + 1);
      if (wrong.empty()) continue;
      ++failures;
      std::printf("case %zu, %s, tile %d x %d, %s, seed %u: %s\n", i, all[i].name, all[i].tile.rows,
                  all[i].tile.columns, nameOf(all[i].type), seed, wrong.c_str());
      break;
    }
  }
  std::printf("%d of %d cases failed\n", failures, ran);
  return failures == 0 && ran > 0 ? 0 : 1;
}
