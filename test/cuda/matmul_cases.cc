#include "test/cuda/matmul_case.h"

namespace longspan::matmul_test {

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
      if (tile == mm::kThinTile) continue;  // for contiguous rows of a
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

}  // namespace longspan::matmul_test
