// Positions in the order of 32-bit keys, stable and deterministic; used where something is ordered
// by integers: permutations, gradients of indexed reads.
#pragma once

#include "cuda/context.h"
#include "cuda/portable.cuh"

namespace longspan::cuda {

// The two halves of a sort: each pass reads one and writes the other.
struct SortBuffers {
  uint32_t* keys[2];
  int32_t* positions[2];
  uint32_t* counts;
};

// Bytes of `n` elements' buffers, and their places in memory that begins 16-byte aligned.
size_t sortBytes(int64_t n);
SortBuffers sortBuffers(std::byte* memory, int64_t n);

// Sorts keys[0], of which the lowest `bits` bits differ, with positions[0]; the result lies in the
// halves with the index that is returned. n is below 2^31.
int sortHalf(int bits);
Status sortByKey(const SortBuffers& buffers, int64_t n, int bits, Context& context);

}  // namespace longspan::cuda
