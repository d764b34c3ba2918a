// matmul on tensor cores, sm_80 and later: mma.sync m16n8k16 of 16-bit floats and, where the caller
// allows it, m16n8k8 of f32 rounded to tf32; sums are f32.
//
// Algorithm: tiles of y in registers; slices of K stream through a ring in shared memory, filled by
// cp.async and read by ldmatrix, which transposes where an operand is row-major: every
// transposition is read in place (NVIDIA, CUTLASS, "Efficient GEMM in CUDA"). One barrier per
// slice: the stage that is filled was read in the slice before. In the large tile a warp holds
// 64x64 sums, 128 registers per thread, so that fragments are read from shared memory once per 64
// rows and columns. Finished sums go through shared memory once: y is stored in runs of 16 bytes.
//
// Cost: 2 M N K FLOPs; bytes: y once; a once per column and b once per row of tiles, most of it
// from L2.
//
// Prediction for an H200: mma.sync reaches about 0.6 of the 790 TFLOP/s that wgmma does, so about
// 450 TFLOP/s at 4096^3 (0.31 ms), half of it with tf32; with M = 16 rows the bytes of b decide,
// 0.8 of 4.3 TB/s. Measured there (bench/results/nvidia-h200.json): 148 TFLOP/s with tf32, thin
// products at 2.1 TB/s. The large tile of 16-bit floats has not yet run on hardware.
#include "cuda/dense/matmul_epilogue.cuh"
#include "cuda/dense/matmul_kernels.h"
#include "cuda/dense/matmul_pipeline.cuh"

namespace longspan::cuda::matmul {
namespace {

// kWarpsM x kWarpsN warps share the tile; kBlocks blocks fit on a multiprocessor.
template <int kRows_, int kColumns_, int kDepth_, int kStages_, int kWarpsM_, int kWarpsN_,
          int kBlocks_>
struct Shape {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kDepth = kDepth_, kStages = kStages_;
  static constexpr int kWarpsM = kWarpsM_, kWarpsN = kWarpsN_, kBlocks = kBlocks_;
  static constexpr int kThreads = kWarpsM * kWarpsN * 32;
  static constexpr int kWarpRows = kRows / kWarpsM, kWarpColumns = kColumns / kWarpsN;
  // Sums on their way out: rows of f32, apart by 8 words more than whole rounds of the banks.
  static constexpr int kOutRow = kColumns + 8;
  static constexpr int kOut = kRows * kOutRow * 4;  // bytes
};
using Large = Shape<128, 128, 32, 4, 2, 2, 2>;
using Small = Shape<64, 64, 64, 3, 2, 2, 4>;
using Thin = Shape<16, 128, 64, 4, 1, 4, 3>;
using LargeTf32 = Shape<128, 128, 16, 4, 2, 2, 2>;
using SmallStrided = Shape<64, 64, 32, 3, 2, 2, 2>;

template <class S>
inline constexpr TileSize kSizeOf{S::kRows, S::kColumns, S::kDepth};
static_assert(kSizeOf<Large> == kLargeTile && kSizeOf<Small> == kSmallTile &&
              kSizeOf<Thin> == kThinTile && kSizeOf<SmallStrided> == kStridedTile &&
              kSizeOf<LargeTf32> == kTileTf32);

template <class T, class S, Major kA, Major kB>
struct Vectors {
  using LoaderA = AsyncLoader<T, kA, S::kRows, S::kDepth, S::kThreads>;
  using LoaderB = AsyncLoader<T, kB, S::kColumns, S::kDepth, S::kThreads>;
  static constexpr Major majorA = kA, majorB = kB;
};
template <class T, class S>
struct Strided {
  using LoaderA = StridedLoader<T, S::kRows, S::kDepth, S::kThreads>;
  using LoaderB = StridedLoader<T, S::kColumns, S::kDepth, S::kThreads>;
  static constexpr Major majorA = Major::k, majorB = Major::k;
};

// d += a b for two steps of 8 columns.
template <class T>
__device__ __forceinline__ void multiply(float (&d)[2][4], const uint32_t (&a)[4],
                                         const uint32_t (&b)[4]) {
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    if constexpr (std::is_same_v<T, float>) {
      ptx::mmaTf32(d[j], a, b[j * 2], b[j * 2 + 1]);
    } else {
      ptx::mma<T>(d[j], a, b[j * 2], b[j * 2 + 1]);
    }
  }
}

// f32 to tf32; nothing else changes.
template <class T>
__device__ __forceinline__ void convert(uint32_t (&x)[4]) {
  if constexpr (std::is_same_v<T, float>) {
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = ptx::toTf32(bitCast<float>(x[i]));
  }
}

template <class T, class S, class Loaders>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    mmaKernel(const __grid_constant__ Problem p) {
#if LONGSPAN_SM90A_ALONE
  if constexpr (std::is_same_v<S, Large>) return;  // matmul_wgmma.cu takes its place
#endif
  LONGSPAN_SHARED(shared);
  using A = TileShape<T, Loaders::majorA, S::kRows, S::kDepth>;
  using B = TileShape<T, Loaders::majorB, S::kColumns, S::kDepth>;
  constexpr int kM = S::kWarpRows / 16, kN = S::kWarpColumns / 16;

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int warpRow = warp / S::kWarpsN * S::kWarpRows;
  const int warpColumn = warp % S::kWarpsN * S::kWarpColumns;
  const FragmentReader<T, Side::a, Loaders::majorA, S::kRows, S::kDepth> readerA(warpRow);
  const FragmentReader<T, Side::b, Loaders::majorB, S::kColumns, S::kDepth> readerB(warpColumn);

  const Tile tile = tileOf<S::kRows, S::kColumns, S::kDepth>(p, blockIdx.x);
  float sums[kM][kN][2][4] = {};
  Pipeline<T, typename Loaders::LoaderA, typename Loaders::LoaderB, S::kDepth, S::kStages,
           A::kBytes, B::kBytes>
      pipeline(p, tile, shared);
#pragma unroll
  for (int i = 0; i < S::kStages - 1; ++i) {
    pipeline.issue();
    pipeline.settle();
  }
  const int slices = tile.end - tile.begin;
  for (int slice = 0; slice < slices; ++slice) {
    pipeline.wait();
    pipeline.issue();
#pragma unroll
    for (int step = 0; step < S::kDepth * static_cast<int>(sizeof(T)) / 32; ++step) {
      uint32_t a[kM][4], b[kN][4];
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        readerA.read(a[i], pipeline.tileA(), i, step);
        convert<T>(a[i]);
      }
#pragma unroll
      for (int j = 0; j < kN; ++j) {
        readerB.read(b[j], pipeline.tileB(), j, step);
        convert<T>(b[j]);
      }
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int j = 0; j < kN; ++j) multiply<T>(sums[i][j], a[i], b[j]);
      }
    }
    pipeline.settle();
    pipeline.release();
  }

  ptx::copyWait<0>();
  if (!kPlanted<Planted::reuse>) __syncthreads();  // the ring has been read
  float* const out = reinterpret_cast<float*>(shared);
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kM; ++i) {
#pragma unroll
    for (int j = 0; j < 2 * kN; ++j) {
      const float(&d)[4] = sums[i][j / 2][j % 2];
      float* const to =
          out + (warpRow + i * 16 + lane / 4) * S::kOutRow + warpColumn + j * 8 + lane % 4 * 2;
      *reinterpret_cast<float2*>(to) = make_float2(d[0], d[1]);
      *reinterpret_cast<float2*>(to + 8 * S::kOutRow) = make_float2(d[2], d[3]);
    }
  }
  if (!kPlanted<Planted::out>) __syncthreads();
  storeTile<T, S::kRows, S::kColumns, S::kOutRow, S::kThreads>(p, tile, out);
}

template <class T, class S, class Loaders>
cudaError_t start(const Problem& p, cudaStream_t stream) {
  constexpr int kRing = S::kStages * (S::kRows + S::kColumns) * S::kDepth * sizeof(T);
  return launch(mmaKernel<T, S, Loaders>, gridOf(p, kSizeOf<S>), dim3(S::kThreads),
                kRing > S::kOut ? kRing : S::kOut, stream, p);
}

template <class T, class S, Major kA>
cudaError_t startRows(const Problem& p, cudaStream_t stream) {
  return p.b.k == 1 ? start<T, S, Vectors<T, S, kA, Major::k>>(p, stream)
                    : start<T, S, Vectors<T, S, kA, Major::other>>(p, stream);
}

template <class T, class S>
cudaError_t startVectors(const Problem& p, cudaStream_t stream) {
  return p.a.k == 1 ? startRows<T, S, Major::k>(p, stream)
                    : startRows<T, S, Major::other>(p, stream);
}

template <class T>
cudaError_t startTyped(const Problem& p, TileSize tile, cudaStream_t stream) {
  if (!p.a.vectors || !p.b.vectors)
    return start<T, SmallStrided, Strided<T, SmallStrided>>(p, stream);
  if (tile == kLargeTile) return startVectors<T, Large>(p, stream);
  if (tile == kThinTile) return startRows<T, Thin, Major::k>(p, stream);
  return startVectors<T, Small>(p, stream);
}

}  // namespace

cudaError_t launchMma(const Problem& p, DType type, TileSize tile, cudaStream_t stream) {
  if (type == DType::f32) return startVectors<float, LargeTf32>(p, stream);
  return type == DType::bf16 ? startTyped<bf16>(p, tile, stream) : startTyped<f16>(p, tile, stream);
}

}  // namespace longspan::cuda::matmul
