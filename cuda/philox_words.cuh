// Words of a Philox stream for a group of neighbouring elements: element i takes word i % 4 of
// block i / 4, as on the CPU.
#pragma once

#include "cpp/core/philox.h"
#include "cuda/portable.cuh"

namespace longspan::cuda {

// words[j] is that of element index + j. Groups that begin at a multiple of 4 take whole blocks.
template <int kWords>
__device__ __forceinline__ void philoxWords(PhiloxState state, int64_t index,
                                            uint32_t (&words)[kWords]) {
  const auto first = static_cast<uint64_t>(index) / 4;
  const int shift = static_cast<int>(index % 4);
  if constexpr (kWords % 4 == 0) {
    if (shift == 0) {
#pragma unroll
      for (int b = 0; b < kWords / 4; ++b) {
        const PhiloxBlock block = philox(state, first + b);
#pragma unroll
        for (int k = 0; k < 4; ++k) words[4 * b + k] = block.word[k];
      }
      return;
    }
  }
  constexpr int kBlocks = (kWords + 6) / 4;
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    const PhiloxBlock block = philox(state, first + b);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      // Which word this becomes depends on `shift`; comparing keeps all of them in registers.
#pragma unroll
      for (int j = 0; j < kWords; ++j) {
        if (4 * b + k == shift + j) words[j] = block.word[k];
      }
    }
  }
}

}  // namespace longspan::cuda
