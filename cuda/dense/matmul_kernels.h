// The kernels that matmul chooses from. Each computes p.y, or parts of its sums in p.partial.
#pragma once

#include "cuda/dense/matmul_problem.cuh"

namespace longspan::cuda::matmul {

// Rows and columns of y that a block computes, and how much of K it takes at a time.
struct TileSize {
  int rows, columns, depth;
  bool operator==(const TileSize&) const = default;
};

// f16, bf16, and f32 rounded to tf32, on tensor cores (mma.sync). f32 needs operands with
// `vectors`.
inline constexpr TileSize kTileTf32{128, 128, 16};
inline constexpr TileSize kStridedTile{64, 64, 32};  // operands without `vectors`
inline constexpr TileSize kLargeTile{128, 128, 32}, kSmallTile{64, 64, 64}, kThinTile{16, 128, 64};
cudaError_t launchMma(const Problem& p, DType type, TileSize tile, cudaStream_t stream);

// f16 and bf16 on the tensor cores of sm_90a (wgmma), for operands that bulk copies reach (`mapped`
// in matmul_maps.h) and K > 0, in as many blocks as the GPU has multiprocessors.
inline constexpr TileSize kWideTile{128, 256, 64}, kSquareTile{128, 128, 64};
cudaError_t launchWgmma(const Problem& p, DType type, TileSize tile, int multiprocessors,
                        cudaStream_t stream);

// f32 with f32 arithmetic.
inline constexpr TileSize kLargeTileF32{128, 128, 8}, kSmallTileF32{64, 64, 16},
    kThinTileF32{16, 128, 16};
cudaError_t launchFma(const Problem& p, TileSize tile, cudaStream_t stream);

// A copy of a 16-bit operand in aligned runs: lines of `elements`, padded to `line`, for every
// element of `axes` (stride a: the original's). Steps are the original's strides.
struct Packing {
  int64_t lines = 0, elements = 0, line = 0;
  int64_t lineStep = 0, elementStep = 0;
  Axes axes;
  int64_t copies = 1;
  int64_t bytes() const { return copies * lines * line * 2; }
};
cudaError_t launchPack(const Packing& p, const void* from, void* to, cudaStream_t stream);

// y from the parts in p.partial, added in order.
cudaError_t launchSplitSum(const Problem& p, DType type, cudaStream_t stream);

// Blocks of a launch: one per tile, batch element and part of K.
inline int64_t tilesOf(const Problem& p, TileSize tile) {
  return (p.m + tile.rows - 1) / tile.rows * ((p.n + tile.columns - 1) / tile.columns) * p.batches *
         p.splits;
}
inline dim3 gridOf(const Problem& p, TileSize tile) {
  return dim3(static_cast<uint32_t>(tilesOf(p, tile)));
}

}  // namespace longspan::cuda::matmul
