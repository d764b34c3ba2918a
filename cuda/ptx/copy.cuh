// cp.async (sm_80): copies from global to shared memory past the registers. Source: PTX ISA,
// "Data Movement and Conversion Instructions: cp.async".
#pragma once

#include "cuda/ptx/base.cuh"

namespace longspan::cuda::ptx {

// Copies `sourceBytes` <= Bytes and fills the rest of the Bytes (4, 8 or 16) with zeros. Both
// addresses are aligned to Bytes. 16 bytes bypass L1.
template <int Bytes>
LONGSPAN_PTX void copyAsyncZeroFill(void* shared, const void* global, int sourceBytes) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
#if defined(LONGSPAN_EMULATED)
  emulator::copyAsync(shared, global, Bytes, sourceBytes);
#else
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sharedAddress(shared)),
                 "l"(global), "r"(sourceBytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %3, %2;" ::"r"(sharedAddress(shared)),
                 "l"(global), "r"(sourceBytes), "n"(Bytes)
                 : "memory");
  }
#endif
}

// With `valid` false nothing is read (the address must still be aligned) and zeros arrive.
template <int Bytes>
LONGSPAN_PTX void copyAsync(void* shared, const void* global, bool valid = true) {
  copyAsyncZeroFill<Bytes>(shared, global, valid ? Bytes : 0);
}

LONGSPAN_PTX void copyCommit() {
#if defined(LONGSPAN_EMULATED)
  emulator::copyCommit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most Pending of this thread's latest groups are in flight. The data is visible to
// this thread; a barrier makes it visible to others.
template <int Pending>
LONGSPAN_PTX void copyWait() {
#if defined(LONGSPAN_EMULATED)
  emulator::copyWait(Pending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

}  // namespace longspan::cuda::ptx
