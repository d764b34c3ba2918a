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
};

template <Planted kBug>
inline constexpr bool kPlanted = LONGSPAN_PLANTED_MATMUL == static_cast<int>(kBug);

}  // namespace longspan::cuda::matmul
