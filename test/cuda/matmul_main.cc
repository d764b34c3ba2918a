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

#include "cpp/core/half.h"
#include "cuda/dense/matmul_plan.h"
#include "test/cuda/control.h"

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

namespace longspan {
namespace {

using cuda::matmul::Kernel;
using cuda::matmul::TileSize;
namespace mm = cuda::matmul;

// How an operand lies: k-major, row-major, or with both strides other than 1; `pad` elements more
// from line to line, `shift` before the first.
struct Layout {
  enum Order { k, rows, neither } order = k;
  int pad = 0, shift = 0;
};

struct Case {
  const char* name;
  Kernel kernel;
  TileSize tile;
  DType type;
  int64_t m, n, k;
  Layout a, b;
  int splits = 1;
  int64_t batches = 1, sums = 1;
  bool broadcastB = false;
  ops::Activation activation = ops::Activation::none;
  bool bias = false, keep = false, pack = false;
};

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

size_t put(std::vector<std::byte>& to, size_t at, DType type, float x) {
  const size_t size = sizeOf(type);
  if (type == DType::f32) std::memcpy(&to[at * size], &x, 4);
  const uint16_t half = type == DType::f16 ? toF16(x).bits : toBf16(x).bits;
  if (size == 2) std::memcpy(&to[at * size], &half, 2);
  return size;
}
double get(const std::vector<std::byte>& from, size_t at, DType type) {
  if (type == DType::f32) {
    float x;
    std::memcpy(&x, &from[at * 4], 4);
    return x;
  }
  uint16_t half;
  std::memcpy(&half, &from[at * 2], 2);
  return type == DType::f16 ? toFloat(f16{half}) : toFloat(bf16{half});
}

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
        put(host, at, type, normal(random));
        out.values.push_back(get(host, at, type));
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
    for (size_t j = 0; j < bias.size(); ++j) bias[j] = get(host, j, c.type);
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
        const double value = get(y, at, c.type);
        const bool right = check(value, applied(c.activation, sum)) &&
                           (!c.keep || check(get(pre, at, c.type), sum));
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

std::vector<Case> cases() {
  using A = ops::Activation;
  const Layout k{}, k8{Layout::k, 8, 8}, rows{Layout::rows, 0, 0}, odd{Layout::k, 1, 3},
      oddRows{Layout::rows, 3, 0}, neither{Layout::neither, 0, 0};
  std::vector<Case> all;
  // Lengths that are multiples of 8 where an axis is contiguous, so that runs are aligned.
  for (const DType type : {DType::bf16, DType::f16}) {
    for (const auto& tile : {mm::kLargeTile, mm::kSmallTile, mm::kThinTile}) {
      const int64_t m = tile == mm::kThinTile ? 8 : 136;
      all.push_back({"k k", Kernel::mma, tile, type, m - 3, 133, 72, k, k8});
      all.push_back({"k rows", Kernel::mma, tile, type, m - 3, 72, 104, k8, rows});
      all.push_back({"rows k", Kernel::mma, tile, type, m, 71, 80, rows, k});
      all.push_back({"rows rows", Kernel::mma, tile, type, m, 136, 37, rows, rows});
    }
    all.push_back({"odd", Kernel::mma, mm::kStridedTile, type, 67, 70, 45, odd, oddRows});
    all.push_back({"neither", Kernel::mma, mm::kStridedTile, type, 3, 5, 100, neither, neither});
  }
  const DType h = DType::bf16;
  const auto with = [&](Case c, A f, bool bias, bool keep) {
    c.activation = f, c.bias = bias, c.keep = keep;
    all.push_back(c);
  };
  const Case base{"epilogue", Kernel::mma, mm::kSmallTile, h, 70, 75, 64, k, k};
  with(base, A::gelu, true, true);
  with(base, A::relu, false, false);
  with(base, A::silu, true, false);
  all.push_back({"parts", Kernel::mma, mm::kSmallTile, h, 65, 40, 600, k, k, 4});
  all.push_back({"parts thin", Kernel::mma, mm::kThinTile, h, 1, 136, 1000, k, k, 3});
  with({"parts epilogue", Kernel::mma, mm::kLargeTile, h, 33, 21, 257, k8, rows, 2}, A::gelu, true,
       true);
  all.push_back(
      {"no K", Kernel::mma, mm::kSmallTile, h, 9, 8, 0, k, k, 1, 1, 1, false, A::none, true});
  all.push_back({"batch", Kernel::mma, mm::kSmallTile, h, 24, 16, 40, k, rows, 1, 5});
  all.push_back({"batch sums", Kernel::mma, mm::kSmallTile, h, 24, 16, 40, rows, rows, 1, 3, 4});
  all.push_back(
      {"batch sums parts", Kernel::mma, mm::kSmallTile, h, 24, 16, 72, rows, k, 3, 3, 4, true});
  // Large enough to be worth a copy of the operand.
  all.push_back({"packed", Kernel::mma, mm::kLargeTile, h, 200, 251, 1001, odd, k, 1, 1, 1, false,
                 A::none, false, false, true});
  all.push_back({"packed batch", Kernel::mma, mm::kSmallTile, h, 130, 70, 500, oddRows, neither, 1,
                 6, 2, true, A::none, false, false, true});

  for (const DType type : {DType::bf16, DType::f16}) {
    for (const auto& tile : {mm::kWideTile, mm::kSquareTile}) {
      const Kernel g = Kernel::wgmma;
      all.push_back({"wgmma k k", g, tile, type, 133, 269, 72, k, k8});
      all.push_back({"wgmma k rows", g, tile, type, 130, 264, 200, k8, rows});
      all.push_back({"wgmma rows k", g, tile, type, 136, 263, 80, rows, k});
      all.push_back({"wgmma rows rows", g, tile, type, 200, 136, 37, rows, rows});
    }
  }
  for (const auto& tile : {mm::kWideTile, mm::kSquareTile}) {
    const Kernel g = Kernel::wgmma;
    // More slices than the ring has stages, more tiles than blocks.
    all.push_back({"wgmma planted", g, tile, h, 257, 264, 456, k, rows});
    const auto shape = [&](int64_t m, int64_t n, int splits = 1) {
      return Case{"wgmma epilogue", g, tile, h, m, n, 320, k, k, splits};
    };
    with(shape(70, 328), A::gelu, true, true);
    with(shape(150, 75), A::geluTanh, true, true);
    with(shape(70, 80), A::relu, false, false);
    with(shape(65, 129), A::silu, true, false);
    with(shape(33, 72), A::reluSquared, true, false);
    with(shape(130, 40, 5), A::gelu, true, true);
    with(shape(20, 135, 2), A::none, false, false);
    all.push_back({"wgmma batch", g, tile, h, 24, 16, 72, k, rows, 1, 5});
    all.push_back({"wgmma batch sums", g, tile, h, 24, 16, 72, rows, rows, 1, 3, 4});
    all.push_back({"wgmma batch sums parts", g, tile, h, 24, 16, 72, rows, k, 3, 3, 4, true});
    all.push_back({"wgmma one row", g, tile, h, 1, 40, 64, k, k});
    all.push_back({"wgmma packed", g, tile, h, 200, 251, 1001, odd, k, 1, 1, 1, false, A::none,
                   false, false, true});
  }
  all.push_back({"wgmma packed batch", Kernel::wgmma, mm::kSquareTile, h, 130, 70, 500, oddRows,
                 neither, 1, 6, 2, true, A::none, false, false, true});

  const DType f = DType::f32;
  for (const auto& tile : {mm::kLargeTileF32, mm::kSmallTileF32, mm::kThinTileF32}) {
    const int64_t m = tile == mm::kThinTileF32 ? 4 : 132;
    all.push_back({"f32 k k", Kernel::fma, tile, f, m - 3, 133, 36, k, k});
    all.push_back({"f32 k rows", Kernel::fma, tile, f, m - 1, 68, 44, k, rows});
    all.push_back({"f32 rows k", Kernel::fma, tile, f, m, 71, 28, rows, k});
    all.push_back({"f32 rows rows", Kernel::fma, tile, f, m, 132, 19, rows, rows});
    all.push_back({"f32 odd", Kernel::fma, tile, f, m, 37, 33, odd, oddRows});
    all.push_back({"f32 neither", Kernel::fma, tile, f, m, 37, 33, neither, neither});
  }
  const TileSize t = mm::kTileTf32;
  all.push_back({"tf32 k k", Kernel::tf32, t, f, 133, 135, 36, k, k8});
  all.push_back({"tf32 k rows", Kernel::tf32, t, f, 5, 136, 44, k8, rows});
  all.push_back({"tf32 rows k", Kernel::tf32, t, f, 136, 71, 40, rows, k});
  all.push_back({"tf32 rows rows", Kernel::tf32, t, f, 132, 136, 19, rows, rows});
  all.push_back({"tf32 parts", Kernel::tf32, t, f, 40, 71, 160, k, k, 2});
  with({"f32 parts", Kernel::fma, mm::kSmallTileF32, f, 33, 21, 257, k, rows, 3}, A::gelu, true,
       true);
  all.push_back({"f32 batch", Kernel::fma, mm::kSmallTileF32, f, 24, 16, 40, k, rows, 1, 3, 2});
  return all;
}

// a [batch..., m, k] times b [k, n], without memory, with one dense batch axis or the given ones.
mm::Plan planned(const cuda::Gpu& gpu, DType type, int64_t m, int64_t n, int64_t k,
                 const std::vector<std::array<int64_t, 2>>& batch = {}) {
  ops::Matmul p;
  const auto matrix = [&](int64_t rows, int64_t columns) {
    TensorView v;
    v.dtype = type;
    v.rank = 2;
    v.shape = {rows, columns};
    v.stride = {columns, 1};
    return v;
  };
  p.b = matrix(k, n);
  p.a = matrix(m, k);
  p.a.rank = static_cast<int>(batch.size()) + 2;
  for (size_t i = 0; i < batch.size(); ++i) {
    p.a.shape[i] = batch[i][0], p.a.stride[i] = batch[i][1];
    p.a.shape[i + 1] = m, p.a.stride[i + 1] = k;
    p.a.shape[i + 2] = k, p.a.stride[i + 2] = 1;
  }
  if (!p.validate().ok()) std::abort();
  return mm::planOf(p, gpu);
}

// Lines of what is planned otherwise than it should be.
std::string checkPlans() {
  const auto of = [](int major, int minor) { return cuda::Gpu{0, major, minor, 132, 232448}; };
  const cuda::Gpu hopper = of(9, 0), emulated{0, 9, 0, 4, 232448};
  const DType h = DType::bf16;
  const int64_t far = int64_t{1} << 24;
  struct Expected {
    const char* what;
    mm::Plan plan;
    Kernel kernel;
    TileSize tile;
    bool splits, packs;
  };
  const std::vector<Expected> all{
      {"4096^3", planned(hopper, h, 4096, 4096, 4096), Kernel::wgmma, mm::kWideTile, false, false},
      {"f16", planned(hopper, DType::f16, 8192, 8192, 768), Kernel::wgmma, mm::kWideTile, false,
       false},
      {"few tiles", planned(hopper, h, 1024, 1536, 1024), Kernel::wgmma, mm::kSquareTile, false,
       false},
      {"few tiles, long sums", planned(hopper, h, 768, 768, 16384), Kernel::wgmma, mm::kWideTile,
       true, false},
      {"odd rows", planned(hopper, h, 4096, 50257, 768), Kernel::wgmma, mm::kWideTile, false, true},
      {"thin", planned(hopper, h, 16, 4096, 4096), Kernel::mma, mm::kSmallTile, true, false},
      {"f32", planned(hopper, DType::f32, 4096, 4096, 4096), Kernel::fma, mm::kLargeTileF32, false,
       false},
      {"no sums", planned(hopper, h, 4096, 4096, 0), Kernel::mma, mm::kLargeTile, false, false},
      {"sm_80", planned(of(8, 0), h, 4096, 4096, 4096), Kernel::mma, mm::kLargeTile, false, false},
      {"sm_100", planned(of(10, 0), h, 4096, 4096, 4096), Kernel::mma, mm::kLargeTile, false,
       false},
      {"sm_120", planned(of(12, 0), h, 4096, 4096, 4096), Kernel::mma, mm::kLargeTile, false,
       false},
      {"two batch axes", planned(hopper, h, 2048, 2048, 2048, {{2, 3 * far}, {3, far}}),
       Kernel::wgmma, mm::kWideTile, false, false},
      {"the operator's tests", planned(emulated, h, 264, 392, 200), Kernel::wgmma, mm::kWideTile, false,
       false},
      {"three batch axes",
       planned(hopper, h, 2048, 2048, 2048, {{2, 60 * far}, {3, 8 * far}, {2, far}}), Kernel::mma,
       mm::kLargeTile, false, false},
      {"backwards", planned(hopper, h, 2048, 2048, 2048, {{3, -far}}), Kernel::mma, mm::kLargeTile,
       false, false},
  };
  std::string wrong;
  for (const Expected& e : all) {
    if (e.plan.kernel == e.kernel && e.plan.tile == e.tile &&
        (e.plan.problem.splits > 1) == e.splits && (e.plan.packsA || e.plan.packsB) == e.packs)
      continue;
    wrong += std::string("plan of ") + e.what + ": kernel " +
             std::to_string(static_cast<int>(e.plan.kernel)) + ", tile " +
             std::to_string(e.plan.tile.rows) + " x " + std::to_string(e.plan.tile.columns) + ", " +
             std::to_string(e.plan.problem.splits) + " parts\n";
  }
  return wrong;
}

}  // namespace
}  // namespace longspan

int main(int argc, char** argv) {
  using namespace longspan;
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
