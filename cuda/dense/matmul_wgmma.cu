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
// of K = 768 is 6100 clocks of multiplies and about 1000 of finishing, so 0.7. Not yet run on
// hardware.
#include "cuda/dense/matmul_kernels.h"
#include "cuda/dense/matmul_maps.h"
#include "cuda/dense/matmul_pipeline.cuh"
#include "cuda/pointwise.cuh"

namespace longspan::cuda::matmul {
namespace {

// kBand: rows of tiles that are walked together, so that a wave of blocks is about square.
template <int kColumns_, int kStages_, uint32_t kBand_>
struct Shape {
  static constexpr int kRows = 128, kColumns = kColumns_, kDepth = kBoxElements;
  static constexpr int kStages = kStages_, kGroups = kRows / 64;
  static constexpr uint32_t kBand = kBand_;
  static constexpr int kThreads = (1 + kGroups) * 128;
  static constexpr int kSums = kColumns / 2;  // of a thread
  static constexpr int kBytesA = kRows * kDepth * 2, kBytesB = kColumns * kDepth * 2;
  static constexpr int kStageBytes = kBytesA + kBytesB;
  // Two buffers per warp on the way out.
  static constexpr int kOutRows = 16, kOutBytes = kOutRows * kBoxElements * 2;
  static constexpr int kRing = kStages * kStageBytes, kOut = kGroups * 4 * 2 * kOutBytes;
  static constexpr int kShared = kRing + kOut + 2 * kStages * 8;
};
using Wide = Shape<256, 4, 16>;
using Square = Shape<128, 6, 12>;
template <class S>
inline constexpr TileSize kSizeOf{S::kRows, S::kColumns, S::kDepth};
static_assert(kSizeOf<Wide> == kWideTile && kSizeOf<Square> == kSquareTile);
static_assert(Wide::kSums <= 128 && Square::kSums <= 128);  // of 232 registers
static_assert(Wide::kBand * Wide::kRows == 2048 && Square::kBand * Square::kRows == 1536);

struct WgmmaProblem {
  OperandMap a, b;
  TensorMap y, preactivation;
  bool bulkStores = false;
  uint32_t tiles = 0;
  Problem problem;
};

// A place in the ring, and the parity of its barriers' phase.
template <class S>
struct Stage {
  int index = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++index == S::kStages) index = 0, parity ^= 1;
  }
};

template <class S>
struct Ring {
  uint8_t* const data;
  uint64_t *const full, *const empty;
  __device__ __forceinline__ explicit Ring(uint8_t* shared)
      : data(shared),
        full(reinterpret_cast<uint64_t*>(shared + S::kRing + S::kOut)),
        empty(full + S::kStages) {}
  __device__ __forceinline__ uint8_t* tileA(int stage) const {
    return data + stage * S::kStageBytes;
  }
  __device__ __forceinline__ uint8_t* tileB(int stage) const { return tileA(stage) + S::kBytesA; }
  __device__ __forceinline__ void initialise() const {
    for (int i = 0; i < S::kStages; ++i) {
      ptx::mbarrierInit(full + i, 1);
      ptx::mbarrierInit(empty + i, S::kGroups * 4);
    }
    ptx::fenceMbarrierInit();
  }
};

[[maybe_unused]] __device__ __forceinline__ int coordinate(const OuterAxis& axis, int batch,
                                                           int sum) {
  const auto index = static_cast<uint32_t>(axis.summed ? sum : batch);
  return static_cast<int>(index / axis.divisor % axis.length);
}

// The copies of a's or b's tiles: a k-major tile is one box, a row-major one a row of panels.
template <class S, Major kMajor, int kRows>
class BulkLoader {
 public:
  __device__ __forceinline__ BulkLoader(const OperandMap& x, int64_t firstRow)
      : x_(x), row_(static_cast<int>(firstRow)) {}
  __device__ __forceinline__ void seek(int batch, int sum) {
    outer0_ = coordinate(x_.outer[0], batch, sum);
    outer1_ = coordinate(x_.outer[1], batch, sum);
  }
  __device__ __forceinline__ void issue(uint8_t* tile, uint64_t* full, int k) const {
    if constexpr (kMajor == Major::k) {
      ptx::bulkLoad(tile, &x_.map, full, k, row_, outer0_, outer1_);
    } else {
#pragma unroll
      for (int i = 0; i < kRows; i += kBoxElements) {
        ptx::bulkLoad(tile + i * S::kDepth * 2, &x_.map, full, row_ + i, k, outer0_, outer1_);
      }
    }
  }

 private:
  const OperandMap& x_;
  const int row_;
  int outer0_ = 0, outer1_ = 0;
};

template <class S>
__device__ __forceinline__ Tile tileAt(const Problem& p, uint32_t index) {
  return tileOf<S::kRows, S::kColumns, S::kDepth, S::kBand>(p, index);
}

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

// The descriptor of an operand's rows from `firstRow` on, indices of K from 16 `step` on.
template <class S, Major kMajor>
__device__ __forceinline__ uint64_t operand(const uint8_t* tile, int firstRow, int step) {
  constexpr uint32_t kPanel = S::kDepth * kBoxElements * 2, kEight = 8 * kBoxElements * 2;
  const int offset = kMajor == Major::k ? firstRow * S::kDepth * 2 + step * 32
                                        : firstRow / kBoxElements * static_cast<int>(kPanel) +
                                              step * 16 * kBoxElements * 2;
  return ptx::matrixDescriptor(tile + offset, kPanel, kEight, ptx::Swizzle::bytes128);
}

// The sums of a warp's 16 rows on their way to y, 64 columns at a time. Fragments: wgmma.cuh.
template <class T, class S>
class Finisher {
 public:
  __device__ __forceinline__ Finisher(const WgmmaProblem& w, uint8_t* buffers)
      : w_(w), buffers_(buffers), lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ __forceinline__ void operator()(const Tile& tile, int warpRow,
                                             const float (&sums)[S::kSums]) {
    const Problem& p = w_.problem;
    const int64_t row = tile.row + warpRow;
    if (row >= p.m) return;
    if (p.splits > 1) {
      storeParts(tile, row, sums);
      return;
    }
#pragma unroll 1
    for (int panel = 0; panel < kPanels; ++panel) {
      const int64_t column = tile.column + panel * kBoxElements;
      if (column >= p.n) break;
      float x[kPart];
      // Moves within registers, so that the code of the activations exists once.
#pragma unroll
      for (int i = 0; i < kPanels; ++i) {
        if (i != panel) continue;
#pragma unroll
        for (int j = 0; j < kPart; ++j) x[j] = sums[i * kPart + j];
      }
      if (p.bias != nullptr) addBias(x, column);
      if (p.preactivation != nullptr) {
        send(x, w_.preactivation, p.preactivation, tile.batch, row, column);
      }
      activateAll(p.activation, x);
      send(x, w_.y, p.y, tile.batch, row, column);
    }
  }

  // Shared memory outlives the copies out of it.
  __device__ __forceinline__ void finish() const {
    if (lane_ == 0) ptx::bulkWaitRead<0>();
  }

 private:
  static constexpr int kPart = kBoxElements / 2;  // sums of a thread in 64 columns
  static constexpr int kPanels = S::kSums / kPart;
  __device__ __forceinline__ int columnOf(int i) const { return i / 4 * 8 + lane_ % 4 * 2 + i % 2; }

  __device__ __forceinline__ void addBias(float (&x)[kPart], int64_t column) const {
    const Problem& p = w_.problem;
    const T* const bias = static_cast<const T*>(p.bias);
#pragma unroll
    for (int i = 0; i < kPart; ++i) {
      if (i % 4 >= 2) continue;
      const int64_t c = column + columnOf(i);
      const float value = c < p.n ? toFloat(bias[c * p.biasStep]) : 0.f;
      x[i] += value;
      x[i + 2] += value;
    }
  }

  // Eight at a time, the others moving up: the functions' code exists once and leaves the sums in
  // their registers.
  static __device__ __forceinline__ void activateAll(ops::Activation activation,
                                                     float (&x)[kPart]) {
    constexpr int kTurn = 8;
    if (activation == ops::Activation::none) return;
#pragma unroll 1
    for (int turn = 0; turn < kPart / kTurn; ++turn) {
      float first[kTurn];
#pragma unroll
      for (int i = 0; i < kTurn; ++i) first[i] = x[i];
      activate(activation, first);
#pragma unroll
      for (int i = 0; i < kPart - kTurn; ++i) x[i] = x[i + kTurn];
#pragma unroll
      for (int i = 0; i < kTurn; ++i) x[kPart - kTurn + i] = first[i];
    }
  }

  // Rounds and stores 16 rows by 64 columns. Chunk c of row r lies at place c ^ r % 8, as the
  // map's swizzle has it.
  __device__ __forceinline__ void send(const float (&x)[kPart], const TensorMap& map, void* to,
                                       int batch, int64_t row, int64_t column) {
    uint8_t* const buffer = buffers_ + (odd_ ? S::kOutBytes : 0);
    odd_ = !odd_;
    if (w_.bulkStores && lane_ == 0 && !kPlanted<Planted::bulkReuse>) ptx::bulkWaitRead<1>();
    __syncwarp();
    const int line = lane_ % 16;
#pragma unroll
    for (int i = 0; i < kPart; i += 8) {
      const uint32_t pairs[4] = {cuda::pack<T>(x[i], x[i + 1]), cuda::pack<T>(x[i + 2], x[i + 3]),
                                 cuda::pack<T>(x[i + 4], x[i + 5]),
                                 cuda::pack<T>(x[i + 6], x[i + 7])};
      const int chunk = i / 4 + lane_ / 16;
      ptx::storeMatrix(buffer + line * 128 + ((chunk ^ line % 8) << 4), pairs);
    }
    if (w_.bulkStores) {
      if (!kPlanted<Planted::bulkProxy>) ptx::fenceProxyAsync();
      __syncwarp();
      if (lane_ == 0) {
        ptx::bulkStore(&map, buffer, static_cast<int>(column), static_cast<int>(row), batch);
        ptx::bulkCommit();
      }
      return;
    }
    __syncwarp();
    const Problem& p = w_.problem;
    T* const out = static_cast<T*>(to) + (batch * p.m + row) * p.n + column;
    const auto rows = static_cast<int>(min(int64_t{S::kOutRows}, p.m - row));
    const auto columns = static_cast<int>(min(int64_t{kBoxElements}, p.n - column));
    for (int r = 0; r < rows; ++r) {
#pragma unroll
      for (int c = lane_; c < kBoxElements; c += 32) {
        if (c >= columns) continue;
        out[r * p.n + c] =
            *reinterpret_cast<const T*>(buffer + r * 128 + ((c / 8 ^ r % 8) << 4) + c % 8 * 2);
      }
    }
  }

  // A quad writes 32 bytes of a row at once.
  __device__ __forceinline__ void storeParts(const Tile& tile, int64_t row,
                                             const float (&sums)[S::kSums]) const {
    const Problem& p = w_.problem;
    const bool pairs = p.n % 2 == 0;
    float* const to = p.partial + int64_t{tile.split * p.batches + tile.batch} * p.m * p.n;
#pragma unroll
    for (int i = 0; i < S::kSums; i += 2) {
      const int64_t r = row + lane_ / 4 + i / 2 % 2 * 8, c = tile.column + columnOf(i);
      if (r >= p.m || c >= p.n) continue;
      float* const at = to + r * p.n + c;
      if (pairs) {
        *reinterpret_cast<float2*>(at) = make_float2(sums[i], sums[i + 1]);
      } else {
        at[0] = sums[i];
        if (c + 1 < p.n) at[1] = sums[i + 1];
      }
    }
  }

  const WgmmaProblem& w_;
  uint8_t* const buffers_;
  const int lane_;
  bool odd_ = false;
};

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
