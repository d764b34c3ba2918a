#include <array>
#include <cstdlib>

#include "test/cuda/matmul_case.h"

namespace longspan::matmul_test {
namespace {

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

}  // namespace

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
      {"no sums", planned(hopper, h, 4096, 4096, 0), Kernel::mma, mm::kSmallTile, false, false},
      {"sm_80", planned(of(8, 0), h, 4096, 4096, 4096), Kernel::mma, mm::kLargeTile, false, false},
      {"sm_100", planned(of(10, 0), h, 4096, 4096, 4096), Kernel::mma, mm::kLargeTile, false,
       false},
      {"sm_120", planned(of(12, 0), h, 4096, 4096, 4096), Kernel::mma, mm::kLargeTile, false,
       false},
      {"two batch axes", planned(hopper, h, 2048, 2048, 2048, {{2, 3 * far}, {3, far}}),
       Kernel::wgmma, mm::kWideTile, false, false},
      {"the operator's tests", planned(emulated, h, 264, 392, 200), Kernel::wgmma, mm::kWideTile,
       false, false},
      {"three batch axes",
       planned(hopper, h, 2048, 2048, 2048, {{2, 60 * far}, {3, 8 * far}, {2, far}}), Kernel::mma,
       mm::kSmallTile, false, false},
      {"backwards", planned(hopper, h, 2048, 2048, 2048, {{3, -far}}), Kernel::mma, mm::kSmallTile,
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

}  // namespace longspan::matmul_test
