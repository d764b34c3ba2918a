// A place in a ring of kStages stages of shared memory, and the parity of its barriers' phase.
#pragma once

#include "cuda/portable.cuh"

namespace longspan::cuda {

template <int kStages>
struct RingPlace {
  int index = 0;
  uint32_t parity = 0;
  __device__ __forceinline__ void advance() {
    if (++index == kStages) index = 0, parity ^= 1;
  }
};

// The same for a ring of two, in one register.
class PairPlace {
 public:
  __device__ __forceinline__ int index() const { return static_cast<int>(count_ & 1); }
  __device__ __forceinline__ uint32_t parity() const { return count_ >> 1 & 1; }
  __device__ __forceinline__ void advance() { ++count_; }

 private:
  uint32_t count_ = 0;
};

}  // namespace longspan::cuda
