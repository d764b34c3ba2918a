// The way of matmul_wgmma.cu's sums from registers to y: bias, activation, rounding, stores.
#pragma once

#include "cuda/dense/matmul_ring.cuh"
#include "cuda/pointwise.cuh"

namespace longspan::cuda::matmul {

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
    storeRows(buffer, static_cast<T*>(to), batch, row, column);
  }

  // The same for rows that begin anywhere: what shares an aligned word is stored at once.
  __device__ __forceinline__ void storeRows(const uint8_t* buffer, T* to, int batch, int64_t row,
                                            int64_t column) const {
    const Problem& p = w_.problem;
    T* const out = to + (batch * p.m + row) * p.n + column;
    const auto rows = static_cast<int>(min(int64_t{S::kOutRows}, p.m - row));
    const auto columns = static_cast<int>(min(int64_t{kBoxElements}, p.n - column));
    for (int r = 0; r < rows; ++r) {
      T* const line = out + r * p.n;
      const auto rounded = [&](int c) {
        return *reinterpret_cast<const T*>(buffer + r * 128 + ((c / 8 ^ r % 8) << 4) + c % 8 * 2);
      };
      const int odd = static_cast<int>(reinterpret_cast<uintptr_t>(line) / sizeof(T) % 2);
      const int c = 2 * lane_ - odd;
      if (c >= 0 && c + 1 < columns) {
        *reinterpret_cast<Pair<T>*>(line + c) = {rounded(c), rounded(c + 1)};
      } else if (c + odd < columns) {
        line[c + odd] = rounded(c + odd);  // the first of an odd line, or the last of an even one
      }
      if (odd == 1 && lane_ == 0 && columns % 2 == 0) line[columns - 1] = rounded(columns - 1);
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

}  // namespace longspan::cuda::matmul
