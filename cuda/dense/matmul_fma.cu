// matmul of f32 on the CUDA cores: every product and sum is f32, in the order of k.
//
// Algorithm: a thread holds 8x8 sums (4x4 in smaller tiles) in quads of 4 consecutive rows and
// columns; slices of K lie in shared memory with K as the slow axis, so that a quad is one access
// of 16 bytes. While one slice is multiplied the next is on its way through registers, which is
// also where a k-major operand is transposed (Volkov and Demmel 2008, "Benchmarking GPUs to tune
// dense linear algebra"). Any strides; runs of 16 bytes where the operand allows it. Cost: 2 M N K
// FLOPs; bytes: y once, a and b once per column or row of tiles. Prediction for an H200 (67 TFLOP/s
// of f32 FMA): 0.75 of it at 4096^3, 2.7 ms; thin products at 0.8 of 4.3 TB/s. Measured there
// (bench/results/nvidia-h200.json): 34 TFLOP/s at 4096^3, 36 at 8192^3, three quarters of what
// PyTorch reached: short of the prediction, not yet explained.
#include "cuda/dense/matmul_epilogue.cuh"
#include "cuda/dense/matmul_kernels.h"
#include "cuda/dense/matmul_pipeline.cuh"

namespace longspan::cuda::matmul {
namespace {

// A slice of an operand on its way to shared memory, in runs of 4 elements along K or along rows,
// whichever has the smaller stride.
template <int kRows, int kDepth, int kThreads>
class SliceLoader {
  static constexpr int kAll = kRows * kDepth / 4, kRuns = (kAll + kThreads - 1) / kThreads;

 public:
  static constexpr int kLine = kRows + 4;  // words from one k to the next
  static constexpr int kWords = kDepth * kLine;

  // Where row `row` lies in the line of k: the later half of 16 lines swaps neighbouring groups of
  // 8, so that a transposing store meets 32 banks.
  static __device__ __forceinline__ int place(int k, int row) {
    return k * kLine + (row ^ (k & 8));
  }

  __device__ __forceinline__ SliceLoader(const Operand& x, int64_t firstRow, int64_t rows)
      : x_(x), alongK_(x.k < 0 ? x.row != 1 : x.k < x.row || x.row < 0), first_(firstRow) {
    const int64_t left = rows - firstRow;
    rowsLeft_ = left < kRows ? static_cast<int>(left) : kRows;
  }
  __device__ __forceinline__ void seek(const float* base) { at_ = base + first_ * x_.row; }

  __device__ __forceinline__ void issue(int depth) {
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      const int run = static_cast<int>(threadIdx.x) + i * kThreads;
      if (kAll % kThreads != 0 && run >= kAll) continue;
      const int row = rowOf(run), k = depthOf(run);
      const float* from = at_ + row * x_.row + k * x_.k;
      const int64_t step = alongK_ ? x_.k : x_.row;
      const int inside =
          alongK_ ? (row < rowsLeft_ ? depth - k : 0) : (k < depth ? rowsLeft_ - row : 0);
      if (x_.vectors && inside >= 4) {
        const auto x = *reinterpret_cast<const float4*>(from);
        kept_[i][0] = x.x, kept_[i][1] = x.y, kept_[i][2] = x.z, kept_[i][3] = x.w;
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j) kept_[i][j] = j < inside ? from[j * step] : 0.f;
      }
    }
    at_ += kDepth * x_.k;
  }
  __device__ __forceinline__ void settle(float* slice) {
#pragma unroll
    for (int i = 0; i < kRuns; ++i) {
      const int run = static_cast<int>(threadIdx.x) + i * kThreads;
      if (kAll % kThreads != 0 && run >= kAll) continue;
      const int row = rowOf(run), k = depthOf(run);
      if (alongK_) {
#pragma unroll
        for (int j = 0; j < 4; ++j) slice[place(k + j, row)] = kept_[i][j];
      } else {
        *reinterpret_cast<float4*>(slice + place(k, row)) =
            make_float4(kept_[i][0], kept_[i][1], kept_[i][2], kept_[i][3]);
      }
    }
  }

 private:
  __device__ __forceinline__ int rowOf(int run) const {
    return alongK_ ? run / (kDepth / 4) : run % (kRows / 4) * 4;
  }
  __device__ __forceinline__ int depthOf(int run) const {
    return alongK_ ? run % (kDepth / 4) * 4 : run / (kRows / 4);
  }

  const Operand& x_;
  const bool alongK_;
  int rowsLeft_;
  const int64_t first_;
  const float* at_ = nullptr;
  float kept_[kRuns][4];
};

// A thread's quads of rows lie kRows / kQuadsM apart; a warp is 4 threads tall and 8 wide.
template <int kRows_, int kColumns_, int kDepth_, int kQuadsM_, int kQuadsN_, int kBlocks_>
struct Shape {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kDepth = kDepth_;
  static constexpr int kQuadsM = kQuadsM_, kQuadsN = kQuadsN_, kBlocks = kBlocks_;
  static constexpr int kTall = kRows / kQuadsM / 4, kWide = kColumns / kQuadsN / 4;
  static constexpr int kThreads = kTall * kWide;
  static constexpr int kOutRow = kColumns + 4;  // sums on their way out
  static_assert(kTall % 4 == 0 && kWide % 8 == 0);
};
using Large = Shape<128, 128, 8, 2, 2, 2>;
using Small = Shape<64, 64, 16, 1, 1, 2>;
using Thin = Shape<16, 128, 16, 1, 1, 4>;

template <class S>
inline constexpr TileSize kSizeOf{S::kRows, S::kColumns, S::kDepth};
static_assert(kSizeOf<Large> == kLargeTileF32 && kSizeOf<Small> == kSmallTileF32 &&
              kSizeOf<Thin> == kThinTileF32);

template <int kQuads>
__device__ __forceinline__ void readQuads(float (&x)[kQuads * 4], const float* line, int first,
                                          int apart, int flip) {
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const auto quad = *reinterpret_cast<const float4*>(line + ((first + q * apart) ^ flip));
    x[q * 4] = quad.x, x[q * 4 + 1] = quad.y, x[q * 4 + 2] = quad.z, x[q * 4 + 3] = quad.w;
  }
}

template <class S>
__global__ void __launch_bounds__(S::kThreads, S::kBlocks)
    fmaKernel(const __grid_constant__ Problem p) {
  LONGSPAN_SHARED(shared);
  using LoaderA = SliceLoader<S::kRows, S::kDepth, S::kThreads>;
  using LoaderB = SliceLoader<S::kColumns, S::kDepth, S::kThreads>;
  constexpr int kDepth = S::kDepth;
  constexpr int kStage = LoaderA::kWords + LoaderB::kWords;
  float* const stages = reinterpret_cast<float*>(shared);

  constexpr int kWarpsWide = S::kWide / 8;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int row = (warp / kWarpsWide * 4 + lane / 8) * 4;
  const int column = (warp % kWarpsWide * 8 + lane % 8) * 4;
  constexpr int kApartM = S::kRows / S::kQuadsM, kApartN = S::kColumns / S::kQuadsN;

  const Tile tile = tileOf<S::kRows, S::kColumns, kDepth>(p, blockIdx.x);
  float sums[S::kQuadsM * 4][S::kQuadsN * 4] = {};
  SliceWalk walk(p, tile, kDepth);
  LoaderA a(p.a, tile.row, p.m);
  LoaderB b(p.b, tile.column, p.n);
  const auto seek = [&] {
    const Offsets at = walk.start(kDepth);
    a.seek(static_cast<const float*>(p.a.data) + at.a);
    b.seek(static_cast<const float*>(p.b.data) + at.b);
  };
  const auto issue = [&] {
    const int depth = walk.depth(kDepth);
    a.issue(depth);
    b.issue(depth);
    if (walk.advance()) seek();
  };
  if (walk.any()) {
    seek();
    issue();
    a.settle(stages);
    b.settle(stages + LoaderA::kWords);
  }
  const int slices = tile.end - tile.begin;
  for (int slice = 0; slice < slices; ++slice) {
    if (!kPlanted<Planted::floatBarrier>) __syncthreads();
    const float* const lineA = stages + slice % 2 * kStage;
    const float* const lineB = lineA + LoaderA::kWords;
    const bool more = walk.any();
    if (more) issue();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float x[S::kQuadsM * 4], w[S::kQuadsN * 4];
      readQuads<S::kQuadsM>(x, lineA + k * LoaderA::kLine, row, kApartM, k & 8);
      readQuads<S::kQuadsN>(w, lineB + k * LoaderB::kLine, column, kApartN, k & 8);
#pragma unroll
      for (int i = 0; i < S::kQuadsM * 4; ++i) {
#pragma unroll
        for (int j = 0; j < S::kQuadsN * 4; ++j) sums[i][j] += x[i] * w[j];
      }
    }
    if (more) {
      float* const next = stages + (slice + 1) % 2 * kStage;
      a.settle(next);
      b.settle(next + LoaderA::kWords);
    }
  }
  // Through shared memory, so that the epilogue is a loop and not 64 copies of itself.
  if (!kPlanted<Planted::floatReuse>) __syncthreads();
#pragma unroll
  for (int i = 0; i < S::kQuadsM * 4; ++i) {
#pragma unroll
    for (int q = 0; q < S::kQuadsN; ++q) {
      float* const to =
          stages + (row + i / 4 * kApartM + i % 4) * S::kOutRow + column + q * kApartN;
      *reinterpret_cast<float4*>(to) =
          make_float4(sums[i][q * 4], sums[i][q * 4 + 1], sums[i][q * 4 + 2], sums[i][q * 4 + 3]);
    }
  }
  if (!kPlanted<Planted::floatOut>) __syncthreads();
  storeTile<float, S::kRows, S::kColumns, S::kOutRow, S::kThreads>(p, tile, stages);
}

template <class S>
cudaError_t start(const Problem& p, cudaStream_t stream) {
  constexpr size_t kSlices = 2 * (SliceLoader<S::kRows, S::kDepth, S::kThreads>::kWords +
                                  SliceLoader<S::kColumns, S::kDepth, S::kThreads>::kWords);
  constexpr size_t kOut = size_t{S::kRows} * S::kOutRow;
  constexpr size_t kShared = (kSlices > kOut ? kSlices : kOut) * sizeof(float);
  return launch(fmaKernel<S>, gridOf(p, kSizeOf<S>), dim3(S::kThreads), kShared, stream, p);
}

}  // namespace

cudaError_t launchFma(const Problem& p, TileSize tile, cudaStream_t stream) {
  if (tile == kLargeTileF32) return start<Large>(p, stream);
  if (tile == kThinTileF32) return start<Thin>(p, stream);
  return start<Small>(p, stream);
}

}  // namespace longspan::cuda::matmul
