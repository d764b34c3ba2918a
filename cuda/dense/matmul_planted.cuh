// Bugs that can be planted into matmul's kernels, one per barrier or asynchronous construct.
// scripts/kernel-tests.mjs builds each with -DLONGSPAN_PLANTED_MATMUL=<number> and expects the
// emulator to object; in every other build all of this is compiled away.
#pragma once

#if !defined(LONGSPAN_PLANTED_MATMUL)
#define LONGSPAN_PLANTED_MATMUL 0
#endif

namespace longspan::cuda::matmul {

enum class Planted {
  none,
  wait,     // for one copy too few
  barrier,  // before a slice is read
  reuse,    // sums over what slower warps still read
  out,      // sums are read before all are written
  floatBarrier,
  floatReuse,
  floatOut,
  bulkInit,    // barriers of the ring are used before all threads know them
  bulkParity,  // always the first phase of "full"
  bulkEmpty,   // a stage is filled again while it is multiplied
  bulkEarly,   // a stage is given back before its multiplies are waited for
  bulkWait,    // sums are read with multiplies in flight
  bulkReuse,   // rounded sums over those that a bulk store still reads
  bulkProxy,   // a bulk store reads them without the fence
};

template <Planted kBug>
inline constexpr bool kPlanted = LONGSPAN_PLANTED_MATMUL == static_cast<int>(kBug);

}  // namespace longspan::cuda::matmul
