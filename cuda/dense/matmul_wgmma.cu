// matmul of 16-bit floats on the tensor cores of sm_90a: wgmma, operands brought by bulk copies
// (TMA); sums are f32.
//
// Algorithm: a block stays on its multiprocessor and walks over tiles of y. One thread of the
// first warpgroup keeps a ring of slices of K in shared memory filled, also while a tile is being
// finished; two warpgroups multiply them, 64 rows of the tile each, with the sums in registers,
// which the first one gives up (warp specialisation: NVIDIA, CUTLASS, "Efficient GEMM in CUDA";
// Bikshandi and Shah, "Developing CUDA kernels for accelerated matrix multiplication on NVIDIA
// Hopper architecture", 2023). Two mbarriers per stage: "full" counts the bytes of the copies,
// "empty" the warps that have multiplied them. The multiplies of a slice are waited for when those
// of the next have been issued. Either axis of an operand may be the contiguous one: descriptors
// tell wgmma. Copies fill with zeros what lies outside, so that edges cost no code. A warp adds
// bias, applies the activation and rounds in registers, then stores 16 rows by 64 columns at a
// time through a buffer of its own, by bulk stores where rows of y are aligned. Parts of K are
// stored as f32 and added by matmul_split.cu.
//
// Cost: 2 M N K FLOPs; bytes: y once; a once per column and b once per row of tiles, from L2:
// 48 KB per 4.2 MFLOP with the wide tile, 32 KB per 2.1 MFLOP with the square one. Bands of tiles
// keep what blocks read at a time to about 2048 rows and columns, 68 MB per wave at K = 8192.
//
// Prediction for an H200 (790 TFLOP/s bf16 by cuBLAS and 4.3 TB/s by copies, both measured): at
// that rate the wide tile's copies would ask L2 for 9 TB/s, more than it is likely to give, since
// blocks do not share what they fetch (no multicast). So about 650 TFLOP/s, 0.82 of cuBLAS, at
// 4096^3 (0.21 ms; 512 tiles are 3.9 waves) and 8192^3 (1.7 ms). Short sums cost more: a wide tile
// of K = 768 is 6100 clocks of multiplies and about 1000 of finishing, so 0.7. Measured there
// (bench/results/nvidia-h200.json): 758 TFLOP/s at 4096^3, 766 at 8192^3, 1.01 and 1.15 of what
// PyTorch reached in the same run.
#include "cuda/dense/matmul_finish.cuh"
#include "cuda/dense/matmul_kernels.h"

namespace longspan::cuda::matmul {
namespace {

using Wide = RingShape<256, 4, 16>;
using Square = RingShape<128, 6, 12>;
template <class S>
inline constexpr TileSize kSizeOf{S::kRows, S::kColumns, S::kDepth};
static_assert(kSizeOf<Wide> == kWideTile && kSizeOf<Square> == kSquareTile);
static_assert(Wide::kSums <= 128 && Square::kSums <= 128);  // of 232 registers
static_assert(Wide::kBand * Wide::kRows == 2048 && Square::kBand * Square::kRows == 1536);

// What one thread of the first warpgroup does.
template <class S, Major kA, Major kB>
__device__ __forceinline__ void produce(const WgmmaProblem& w, const Ring<S>& ring) {
  const Problem& p = w.problem;
  Stage<S> stage;
  for (uint32_t i = blockIdx.x; i < w.tiles; i += gridDim.x) {
    const Tile tile = tileAt<S>(p, i);
    BulkLoader<S, kA, S::kRows> a(w.a, tile.row);
    BulkLoader<S, kB, S::kColumns> b(w.b, tile.column);
    SliceWalk walk(p, tile, S::kDepth);
    bool seek = true;
    while (walk.any()) {
      if (seek) {
        a.seek(tile.batch, walk.sum());
        b.seek(tile.batch, walk.sum());
      }
      if (!kPlanted<Planted::bulkEmpty>) {
        ptx::mbarrierWait(ring.empty + stage.index, stage.parity ^ 1);
      }
      uint64_t* const full = ring.full + stage.index;
      ptx::mbarrierArriveExpect(full, S::kStageBytes);
      a.issue(ring.tileA(stage.index), full, walk.slice() * S::kDepth);
      b.issue(ring.tileB(stage.index), full, walk.slice() * S::kDepth);
      stage.advance();
      seek = walk.advance();
    }
  }
}

// What a warp of the other warpgroups does; `group` is the warpgroup's place among them.
template <class T, class S, Major kA, Major kB>
__device__ __forceinline__ void consume(const WgmmaProblem& w, const Ring<S>& ring, uint8_t* shared,
                                        int group) {
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const bool releases = threadIdx.x % 32 == 0;
  Finisher<T, S> finish(w, shared + S::kRing + (group * 4 + warp) * 2 * S::kOutBytes);
  Stage<S> stage;
  for (uint32_t i = blockIdx.x; i < w.tiles; i += gridDim.x) {
    const Tile tile = tileAt<S>(w.problem, i);
    float sums[S::kSums];
    int previous = 0;
    for (int slice = tile.begin; slice < tile.end; ++slice) {
      ptx::mbarrierWait(ring.full + stage.index, kPlanted<Planted::bulkParity> ? 0 : stage.parity);
      const uint8_t *const a = ring.tileA(stage.index), *const b = ring.tileB(stage.index);
      ptx::wgmmaFence();
#pragma unroll
      for (int step = 0; step < S::kDepth / 16; ++step) {
        ptx::wgmma<T, S::kColumns, kA, kB>(sums, operand<S, kA>(a, group * 64, step),
                                           operand<S, kB>(b, 0, step),
                                           step > 0 || slice > tile.begin);
      }
      ptx::wgmmaCommit();
      ptx::wgmmaWait<1>();
      if (kPlanted<Planted::bulkEarly>) previous = stage.index;
      if (releases && (slice > tile.begin || kPlanted<Planted::bulkEarly>)) {
        ptx::mbarrierArrive(ring.empty + previous);
      }
      previous = stage.index;
      stage.advance();
    }
    ptx::wgmmaWait<kPlanted<Planted::bulkWait> ? 1 : 0>(sums);
    if (releases && !kPlanted<Planted::bulkEarly>) ptx::mbarrierArrive(ring.empty + previous);
    finish(tile, group * 64 + warp * 16, sums);
  }
  finish.finish();
}

template <class T, class S, Major kA, Major kB>
__global__ void __launch_bounds__(S::kThreads, 1)
    wgmmaKernel(const __grid_constant__ WgmmaProblem w) {
#if LONGSPAN_SM90A
  LONGSPAN_SHARED(shared);
  const Ring<S> ring(shared);
  if (threadIdx.x == 0) {
    ptx::prefetchTensorMap(&w.a.map);
    ptx::prefetchTensorMap(&w.b.map);
    ring.initialise();
  }
  if (!kPlanted<Planted::bulkInit>) __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  if (warpgroup == 0) {
    ptx::registersDecrease<40>();
    if (threadIdx.x == 0) produce<S, kA, kB>(w, ring);
  } else {
    ptx::registersIncrease<232>();
    consume<T, S, kA, kB>(w, ring, shared, warpgroup - 1);
  }
#endif
}

template <class T, class S, Major kA, Major kB>
cudaError_t start(const Problem& p, DType type, int multiprocessors, cudaStream_t stream) {
  WgmmaProblem w;
  w.problem = p;
  const int64_t tiles = tilesOf(p, kSizeOf<S>);
  w.tiles = static_cast<uint32_t>(tiles);
  cudaError_t error = mapOperand(&w.a, p, true, type, S::kRows);
  if (error == cudaSuccess) error = mapOperand(&w.b, p, false, type, S::kColumns);
  if (error == cudaSuccess && p.splits == 1) {
    error = mapResult(&w.y, &w.bulkStores, p, p.y, type, S::kOutRows);
    if (error == cudaSuccess && w.bulkStores && p.preactivation != nullptr) {
      error = mapResult(&w.preactivation, &w.bulkStores, p, p.preactivation, type, S::kOutRows);
    }
  }
  if (error != cudaSuccess) return error;
  const int64_t blocks = tiles < multiprocessors ? tiles : multiprocessors;
  return launch(wgmmaKernel<T, S, kA, kB>, dim3(static_cast<uint32_t>(blocks)), dim3(S::kThreads),
                S::kShared, stream, w);
}

template <class T, class S>
cudaError_t startShape(const Problem& p, DType type, int multiprocessors, cudaStream_t stream) {
  constexpr Major kK = Major::k, kOther = Major::other;
  const bool alongK = p.b.k == 1;
  if (p.a.k == 1) {
    return alongK ? start<T, S, kK, kK>(p, type, multiprocessors, stream)
                  : start<T, S, kK, kOther>(p, type, multiprocessors, stream);
  }
  return alongK ? start<T, S, kOther, kK>(p, type, multiprocessors, stream)
                : start<T, S, kOther, kOther>(p, type, multiprocessors, stream);
}

template <class T>
cudaError_t startTyped(const Problem& p, DType type, TileSize tile, int multiprocessors,
                       cudaStream_t stream) {
  return tile == kWideTile ? startShape<T, Wide>(p, type, multiprocessors, stream)
                           : startShape<T, Square>(p, type, multiprocessors, stream);
}

}  // namespace

cudaError_t launchWgmma(const Problem& p, DType type, TileSize tile, int multiprocessors,
                        cudaStream_t stream) {
  return type == DType::bf16 ? startTyped<bf16>(p, type, tile, multiprocessors, stream)
                             : startTyped<f16>(p, type, tile, multiprocessors, stream);
}

}  // namespace longspan::cuda::matmul
