// Warpgroup matrix multiply (sm_90a): D[64 x N] (+)= A[64 x 16] B[16 x N] in f32 from 16-bit
// operands in shared memory; A may come from registers. All four warps of a warpgroup issue the
// same sequence: fence, multiplies, commit, wait. D fragment of warp w, register i: row 16w + g + 8
// ((i >> 1) & 1), column 8 (i / 4) + 2t + (i & 1), g = lane / 4, t = lane % 4; A in registers has
// the layout of mma (matrix.cuh) in the warp's 16 rows. Source: PTX ISA, "Asynchronous Warpgroup
// Level Matrix Instructions".
#pragma once

#include "cuda/ptx/base.cuh"

namespace longspan::cuda::ptx {

// Which index of an operand is contiguous: k, or the other one (rows of A, columns of B).
enum class Major { k = 0, other = 1 };

// Permutation of 16-byte chunks within rows of that many bytes, as the tensor map of the copy has
// it.
enum class Swizzle : uint64_t { none = 0, bytes128 = 1, bytes64 = 2, bytes32 = 3 };

// Operand in shared memory. The tile is 1024-byte aligned for 128-byte swizzle; steps along k add
// to `start`. Offsets are in bytes. With 128-byte swizzle: k-major stride = 1024 (8 rows), leading
// is ignored; other-major stride = 1024 (8 rows of k), leading = distance between 64-wide panels.
LONGSPAN_PTX uint64_t matrixDescriptor(const void* start, uint32_t leading, uint32_t stride,
                                       Swizzle swizzle) {
  constexpr uint32_t kMask = 0x3ffff;
  return static_cast<uint64_t>((sharedAddress(start) & kMask) >> 4) |
         static_cast<uint64_t>((leading & kMask) >> 4) << 16 |
         static_cast<uint64_t>((stride & kMask) >> 4) << 32 | static_cast<uint64_t>(swizzle) << 62;
}

// Before the first multiply and whenever registers that a multiply uses were touched in between.
LONGSPAN_PTX void wgmmaFence() {
#if defined(LONGSPAN_EMULATED)
  emulator::wgmmaFence();
#else
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

LONGSPAN_PTX void wgmmaCommit() {
#if defined(LONGSPAN_EMULATED)
  emulator::wgmmaCommit();
#else
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// Keeps the compiler from moving accesses to registers of a multiply in flight across this point.
template <int N>
LONGSPAN_PTX void wgmmaHold(float (&d)[N]) {
#if defined(LONGSPAN_EMULATED)
  static_cast<void>(d);
#else
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

// Waits until at most Pending groups are in flight. Give the accumulators that are complete then:
// their uses must not move above the wait.
template <int Pending, int... N>
LONGSPAN_PTX void wgmmaWait(float (&... d)[N]) {
#if defined(LONGSPAN_EMULATED)
  emulator::wgmmaWait(Pending);
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
#endif
  (wgmmaHold(d), ...);
}

// Both operands in shared memory; with `accumulate` false D is overwritten.
template <class T, int N, Major A, Major B>
LONGSPAN_PTX void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate);

// A in registers.
template <class T, int N, Major B>
LONGSPAN_PTX void wgmma(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate);

#if defined(LONGSPAN_EMULATED)

template <class T, int N, Major A, Major B>
LONGSPAN_PTX void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256);
  emulator::wgmma(d, N, nullptr, a, b, accumulate, A == Major::other, B == Major::other,
                  std::is_same_v<T, bf16>);
}

template <class T, int N, Major B>
LONGSPAN_PTX void wgmma(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  static_assert(N % 8 == 0 && N >= 8 && N <= 256);
  emulator::wgmma(d, N, a, 0, b, accumulate, false, B == Major::other, std::is_same_v<T, bf16>);
}

#else

template <class T, int N, Major A, Major B>
struct WgmmaShared;
template <class T, int N, Major B>
struct WgmmaRegisters;

template <class T, int N, Major A, Major B>
LONGSPAN_PTX void wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, bool accumulate) {
  WgmmaShared<T, N, A, B>::run(d, a, b, accumulate);
}

template <class T, int N, Major B>
LONGSPAN_PTX void wgmma(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  WgmmaRegisters<T, N, B>::run(d, a, b, accumulate);
}

#endif

}  // namespace longspan::cuda::ptx

#if !defined(LONGSPAN_EMULATED)
#include "cuda/ptx/wgmma_shapes.cuh"
#endif
