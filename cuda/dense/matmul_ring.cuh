// The ring of slices of K that matmul_wgmma.cu multiplies: its shape, barriers, bulk copies into it
// and descriptors of what lies in it.
#pragma once

#include "cuda/dense/matmul_maps.h"
#include "cuda/dense/matmul_pipeline.cuh"
#include "cuda/ring.cuh"

namespace longspan::cuda::matmul {

// kBand: rows of tiles that are walked together, so that a wave of blocks is about square.
template <int kColumns_, int kStages_, uint32_t kBand_>
struct RingShape {
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

struct WgmmaProblem {
  OperandMap a, b;
  TensorMap y, preactivation;
  bool bulkStores = false;
  uint32_t tiles = 0;
  Problem problem;
};

template <class S>
using Stage = RingPlace<S::kStages>;

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

// The descriptor of an operand's rows from `firstRow` on, indices of K from 16 `step` on.
template <class S, Major kMajor>
__device__ __forceinline__ uint64_t operand(const uint8_t* tile, int firstRow, int step) {
  constexpr uint32_t kPanel = S::kDepth * kBoxElements * 2, kEight = 8 * kBoxElements * 2;
  const int offset = kMajor == Major::k ? firstRow * S::kDepth * 2 + step * 32
                                        : firstRow / kBoxElements * static_cast<int>(kPanel) +
                                              step * 16 * kBoxElements * 2;
  return ptx::matrixDescriptor(tile + offset, kPanel, kEight, ptx::Swizzle::bytes128);
}

}  // namespace longspan::cuda::matmul
