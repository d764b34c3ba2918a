// The main loop's walk through slices of K, and the copies that run ahead of it.
#pragma once

#include "cuda/dense/matmul_planted.cuh"
#include "cuda/dense/matmul_tile.cuh"

namespace longspan::cuda::matmul {

// Slices [begin, end) of a tile, over K and all sums: where the next one begins.
class SliceWalk {
 public:
  __device__ __forceinline__ SliceWalk(const Problem& p, const Tile& tile, int depth)
      : p_(p),
        batch_(tile.batch),
        each_(static_cast<int>(ceilDiv(p.k, depth))),
        slice_(tile.begin),
        left_(tile.end - tile.begin) {
    if (slice_ != 0) {
      sum_ = slice_ / each_;
      slice_ -= sum_ * each_;
    }
  }
  __device__ __forceinline__ bool any() const { return left_ > 0; }
  // The next slice: its place along K, and the sum that it belongs to.
  __device__ __forceinline__ int slice() const { return slice_; }
  __device__ __forceinline__ int sum() const { return sum_; }
  // Indices of K that the slice has, at most `depth`.
  __device__ __forceinline__ int depth(int depth) const {
    const int64_t left = p_.k - int64_t{slice_} * depth;
    return left < depth ? static_cast<int>(left) : depth;
  }
  // The operands' elements at (row 0, the slice's first k).
  __device__ __forceinline__ Offsets start(int depth) const {
    const int64_t k = int64_t{slice_} * depth;
    Offsets at{k * p_.a.k, k * p_.b.k};
    addOffsets(at, p_.batch, static_cast<uint32_t>(batch_));
    addOffsets(at, p_.summed, static_cast<uint32_t>(sum_));
    return at;
  }
  // To the next slice; true when that belongs to another sum.
  __device__ __forceinline__ bool advance() {
    --left_;
    if (++slice_ < each_ || left_ <= 0) return false;
    slice_ = 0;
    ++sum_;
    return true;
  }

 private:
  const Problem& p_;
  const int batch_, each_;  // slices of one sum
  int slice_, left_, sum_ = 0;
};

// A ring of kStages slices in shared memory, a's tile before b's, filled with cp.async.
template <class T, class LoaderA, class LoaderB, int kDepth, int kStages, int kBytesA, int kBytesB>
class Pipeline {
 public:
  static constexpr int kStageBytes = kBytesA + kBytesB;

  __device__ __forceinline__ Pipeline(const Problem& p, const Tile& tile, uint8_t* ring)
      : p_(p),
        walk_(p, tile, kDepth),
        a_(p.a, tile.row, p.m),
        b_(p.b, tile.column, p.n),
        ring_(ring) {
    seek();
  }

  // Begins to fill the next stage; settle() ends it.
  __device__ __forceinline__ void issue() {
    filling_ = walk_.any();
    if (filling_) {
      const int depth = walk_.depth(kDepth);
      a_.issue(filled(), depth);
      b_.issue(filled() + kBytesA, depth);
      if (walk_.advance()) seek();
    }
    ptx::copyCommit();
  }
  __device__ __forceinline__ void settle() {
    if (filling_) {
      a_.settle(filled());
      b_.settle(filled() + kBytesA);
    }
    fill_ = next(fill_);
  }
  // The oldest stage, complete once wait() has returned, for all threads of the block.
  __device__ __forceinline__ void wait() {
    ptx::copyWait<kPlanted<Planted::wait> ? kStages - 1 : kStages - 2>();
    if (!kPlanted<Planted::barrier>) __syncthreads();
  }
  __device__ __forceinline__ const uint8_t* tileA() const { return ring_ + read_ * kStageBytes; }
  __device__ __forceinline__ const uint8_t* tileB() const { return tileA() + kBytesA; }
  __device__ __forceinline__ void release() { read_ = next(read_); }

 private:
  static __device__ __forceinline__ int next(int stage) {
    return stage == kStages - 1 ? 0 : stage + 1;
  }
  __device__ __forceinline__ uint8_t* filled() { return ring_ + fill_ * kStageBytes; }
  __device__ __forceinline__ void seek() {
    const Offsets at = walk_.start(kDepth);
    a_.seek(static_cast<const T*>(p_.a.data) + at.a);
    b_.seek(static_cast<const T*>(p_.b.data) + at.b);
  }

  const Problem& p_;
  SliceWalk walk_;
  LoaderA a_;
  LoaderB b_;
  uint8_t* const ring_;
  int fill_ = 0, read_ = 0;
  bool filling_ = false;
};

}  // namespace longspan::cuda::matmul
