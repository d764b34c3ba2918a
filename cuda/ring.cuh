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

}  // namespace longspan::cuda
