// Operand tiles in shared memory: how cp.async fills them and ldmatrix reads them.
//
// A tile is kLines lines of kChunks chunks of 16 bytes: lines are rows of the operand (k-major) or
// indices of K (row-major). Chunk c of line l lies at place c ^ mix(l) of its line, so that the 8
// chunks of one ldmatrix phase, and of one phase of the copies, lie in 8 different groups of banks.
#pragma once

#include "cuda/dense/matmul_problem.cuh"
#include "cuda/ptx.cuh"

namespace longspan::cuda::matmul {

using ptx::Major;

template <class T, Major kMajor, int kRows, int kDepth>
struct TileShape {
  static constexpr int kElements = 16 / sizeof(T);  // of a chunk
  static constexpr int kLines = kMajor == Major::k ? kRows : kDepth;
  static constexpr int kChunks = (kMajor == Major::k ? kDepth : kRows) / kElements;
  static constexpr int kLineBytes = kChunks * 16;
  static constexpr int kBytes = kLines * kLineBytes;
  static_assert((kChunks & (kChunks - 1)) == 0);

  static constexpr bool kWords = sizeof(T) == 4 && kMajor == Major::other;
  static constexpr int kPeriod = kWords ? 4 : 8;  // of mix()

  static __device__ __forceinline__ uint32_t mix(uint32_t line) {
    if constexpr (kWords) {
      return line % 4 * 2;  // 8 rows, two chunks, of 4 lines are read at once
    } else if constexpr (kChunks >= 8) {
      return line & 7;
    } else {
      return line / (8 / kChunks) & (kChunks - 1);
    }
  }
  static __device__ __forceinline__ uint32_t offset(uint32_t line, uint32_t chunk) {
    return line * kLineBytes + ((chunk ^ mix(line)) << 4);
  }
};

// Copies the tile with cp.async, chunk by chunk; what lies outside becomes zero. Needs
// Operand::vectors.
template <class T, Major kMajor, int kRows, int kDepth, int kThreads>
class AsyncLoader {
  using Shape = TileShape<T, kMajor, kRows, kDepth>;
  static constexpr int kLineStep = kThreads / Shape::kChunks;
  static constexpr int kCopies = Shape::kLines / kLineStep;
  static_assert(kThreads % Shape::kChunks == 0 && Shape::kLines % kLineStep == 0);
  static_assert(kLineStep % Shape::kPeriod ==
                0);  // so that mix() is the same for every copy of a thread

 public:
  __device__ __forceinline__ AsyncLoader(const Operand& x, int64_t firstRow, int64_t rows)
      : lineStride_(kMajor == Major::k ? x.row : x.k) {
    line_ = static_cast<int>(threadIdx.x) / Shape::kChunks;
    const int chunk = static_cast<int>(threadIdx.x) % Shape::kChunks;
    element_ = chunk * Shape::kElements;
    target_ = Shape::offset(line_, chunk);
    const int64_t left = rows - firstRow - (kMajor == Major::k ? line_ : element_);
    rowsLeft_ = left < 0 ? 0 : left > kRows ? kRows : static_cast<int>(left);
    first_ = kMajor == Major::k ? (firstRow + line_) * x.row + element_
                                : firstRow + element_ + line_ * x.k;
  }

  // The next slices begin here: `base` is the operand's element (0, k).
  __device__ __forceinline__ void seek(const T* base) { at_ = base + first_; }

  // Copies a slice, of which `depth` indices of K exist, and moves on to the next one.
  __device__ __forceinline__ void issue(uint8_t* tile, int depth) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int lines = kMajor == Major::k ? rowsLeft_ : depth - line_;
      const int elements = kMajor == Major::k ? depth - element_ : rowsLeft_;
      int bytes = elements * static_cast<int>(sizeof(T));
      bytes = bytes < 0 || i * kLineStep >= lines ? 0 : bytes > 16 ? 16 : bytes;
      ptx::copyAsyncZeroFill<16>(tile + target_ + i * kLineStep * Shape::kLineBytes,
                                 at_ + i * kLineStep * lineStride_, bytes);
    }
    at_ += kMajor == Major::k ? kDepth : kDepth * lineStride_;
  }
  __device__ __forceinline__ void settle(uint8_t*) {}

 private:
  const int64_t lineStride_;
  const T* at_ = nullptr;
  int64_t first_;
  int line_, element_, rowsLeft_;
  uint32_t target_;
};

// The same for any strides, element by element through registers: a slice is read by issue() and
// written by settle(), with the arithmetic of another slice in between. The tile is k-major.
template <class T, int kRows, int kDepth, int kThreads>
class StridedLoader {
  using Shape = TileShape<T, Major::k, kRows, kDepth>;
  static constexpr int kCopies = Shape::kLines * Shape::kChunks / kThreads;
  static_assert(sizeof(T) == 2 && Shape::kLines * Shape::kChunks % kThreads == 0);

 public:
  __device__ __forceinline__ StridedLoader(const Operand& x, int64_t firstRow, int64_t rows)
      : row_(x.row), k_(x.k), firstRow_(firstRow), rowsLeft_(rows - firstRow) {}

  __device__ __forceinline__ void seek(const T* base) { at_ = base + firstRow_ * row_; }

  __device__ __forceinline__ void issue(uint8_t*, int depth) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int index = static_cast<int>(threadIdx.x) + i * kThreads;
      const int line = index / Shape::kChunks;
      const int element = index % Shape::kChunks * Shape::kElements;
#pragma unroll
      for (int j = 0; j < Shape::kElements; ++j) {
        const bool inside = line < rowsLeft_ && element + j < depth;
        const uint32_t bits = inside ? at_[line * row_ + (element + j) * k_].bits : 0;
        kept_[i][j / 2] = j % 2 == 0 ? bits : kept_[i][j / 2] | bits << 16;
      }
    }
    at_ += kDepth * k_;
  }
  __device__ __forceinline__ void settle(uint8_t* tile) {
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int index = static_cast<int>(threadIdx.x) + i * kThreads;
      *reinterpret_cast<uint4*>(tile +
                                Shape::offset(index / Shape::kChunks, index % Shape::kChunks)) =
          make_uint4(kept_[i][0], kept_[i][1], kept_[i][2], kept_[i][3]);
    }
  }

 private:
  const int64_t row_, k_, firstRow_, rowsLeft_;
  const T* at_ = nullptr;
  uint32_t kept_[kCopies][4];  // pairs
};

enum class Side { a, b };

// Reads fragments of 16 rows and two chunks of K (16 indices, 8 of f32); a warp's rows begin at
// `firstRow`. For a the four registers are one operand of mma, for b two (rows 0-7, rows 8-15).
// ldmatrix moves f32 as pairs of 16 bits; it cannot transpose them, so row-major f32 is read word
// by word.
template <class T, Side kSide, Major kMajor, int kRows, int kDepth>
class FragmentReader {
  using Shape = TileShape<T, kMajor, kRows, kDepth>;

 public:
  __device__ __forceinline__ explicit FragmentReader(int firstRow) {
    const uint32_t lane = threadIdx.x % 32;
    if constexpr (kMajor == Major::other && sizeof(T) == 4) {
      const uint32_t k = lane % 4, row = static_cast<uint32_t>(firstRow) + lane / 4;
      offset_ = Shape::offset(k, row / 4) + row % 4 * 4;
      return;
    }
    const uint32_t eighth = lane % 8, low = lane / 8 % 2, high = lane / 16;
    const uint32_t row8 = kSide == Side::a ? low : high, k8 = kSide == Side::a ? high : low;
    offset_ = kMajor == Major::k
                  ? Shape::offset(static_cast<uint32_t>(firstRow) + row8 * 8 + eighth, k8)
                  : Shape::offset(k8 * 8 + eighth, static_cast<uint32_t>(firstRow) / 8 + row8);
  }

  // Fragment i of the warp's rows, step `step` along K. A step of two chunks flips bits that
  // are zero before the mixing: exclusive or stands for the sum.
  __device__ __forceinline__ void read(uint32_t (&r)[4], const uint8_t* tile, int i,
                                       int step) const {
    if constexpr (kMajor == Major::k) {
      ptx::loadMatrix(r, tile + (offset_ ^ (step * 32)) + i * 16 * Shape::kLineBytes);
    } else if constexpr (sizeof(T) == 4) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int row8 = kSide == Side::a ? j % 2 : j / 2, k4 = kSide == Side::a ? j / 2 : j % 2;
        r[j] = *reinterpret_cast<const uint32_t*>(tile + (offset_ ^ (i * 64 + row8 * 32)) +
                                                  (step * 8 + k4 * 4) * Shape::kLineBytes);
      }
    } else {
      ptx::loadMatrixTransposed(r, tile + (offset_ ^ (i * 32)) + step * 16 * Shape::kLineBytes);
    }
  }

 private:
  uint32_t offset_;
};

}  // namespace longspan::cuda::matmul
