// Named barriers, mbarriers, proxy fences, warp election, register reallocation.
// Source: PTX ISA, "Parallel Synchronization and Communication Instructions".
#pragma once

#include "cuda/ptx/base.cuh"

namespace longspan::cuda::ptx {

// Barrier `id` 1..15 among `threads` threads (a multiple of 32, whole warps). Ids are compile-time
// constants at the call: a run-time id makes ptxas reserve all sixteen.
LONGSPAN_PTX void barrierSync(int id, int threads) {
#if defined(LONGSPAN_EMULATED)
  emulator::barrierSync(id, threads);
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

// Counts this thread in without waiting.
LONGSPAN_PTX void barrierArrive(int id, int threads) {
#if defined(LONGSPAN_EMULATED)
  emulator::barrierArrive(id, threads);
#else
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

// True in exactly one lane of a converged warp.
LONGSPAN_PTX bool electOne() {
#if defined(LONGSPAN_EMULATED)
  return emulator::electOne(0xffffffffu);
#else
  uint32_t elected;
  asm volatile(
      "{\n.reg .pred p;\n"
      "elect.sync _|p, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(elected)::"memory");
  return elected != 0;
#endif
}

// Shared-memory barrier object of 8 bytes, for `arrivals` arrivals per phase. Follow the
// initialisation with fenceMbarrierInit and a block barrier.
LONGSPAN_PTX void mbarrierInit(uint64_t* barrier, uint32_t arrivals) {
#if defined(LONGSPAN_EMULATED)
  emulator::mbarrierInit(barrier, arrivals);
#else
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(barrier)),
               "r"(arrivals)
               : "memory");
#endif
}

LONGSPAN_PTX void mbarrierArrive(uint64_t* barrier) {
#if defined(LONGSPAN_EMULATED)
  emulator::mbarrierArrive(barrier, 0, true);
#else
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(barrier)) : "memory");
#endif
}

// Arrives and adds `bytes` to what bulk copies must deliver before the phase completes.
LONGSPAN_PTX void mbarrierArriveExpect(uint64_t* barrier, uint32_t bytes) {
#if defined(LONGSPAN_EMULATED)
  emulator::mbarrierArrive(barrier, bytes, true);
#else
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(barrier)),
      "r"(bytes)
      : "memory");
#endif
}

// Adds to the expected bytes without arriving.
LONGSPAN_PTX void mbarrierExpect(uint64_t* barrier, uint32_t bytes) {
#if defined(LONGSPAN_EMULATED)
  emulator::mbarrierArrive(barrier, bytes, false);
#else
  asm volatile(
      "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(barrier)),
      "r"(bytes)
      : "memory");
#endif
}

// True when the phase of this parity has completed; a new barrier answers true for parity 1. May
// take a while before it answers false.
LONGSPAN_PTX bool mbarrierTryWait(uint64_t* barrier, uint32_t parity) {
#if defined(LONGSPAN_EMULATED)
  return emulator::mbarrierTryWait(barrier, parity);
#else
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(sharedAddress(barrier)), "r"(parity)
      : "memory");
  return done != 0;
#endif
}

LONGSPAN_PTX void mbarrierWait(uint64_t* barrier, uint32_t parity) {
#if defined(LONGSPAN_EMULATED)
  emulator::mbarrierWait(barrier, parity);
#else
  while (!mbarrierTryWait(barrier, parity)) {
  }
#endif
}

// Makes mbarrierInit visible to bulk copies.
LONGSPAN_PTX void fenceMbarrierInit() {
#if defined(LONGSPAN_EMULATED)
  emulator::fenceMbarrierInit();
#else
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

// Makes this thread's ordinary accesses to shared memory visible to bulk copies and wgmma; in the
// writing thread, before the barrier that the issuing thread waits for.
LONGSPAN_PTX void fenceProxyAsync() {
#if defined(LONGSPAN_EMULATED)
  emulator::fenceProxyAsync();
#else
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Every warp of a warpgroup gives up or asks for registers per thread: a multiple of 8, 24..256.
template <int Registers>
LONGSPAN_PTX void registersIncrease() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
#if defined(LONGSPAN_EMULATED)
  emulator::setRegisters();
#else
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
#endif
}

template <int Registers>
LONGSPAN_PTX void registersDecrease() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
#if defined(LONGSPAN_EMULATED)
  emulator::setRegisters();
#else
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
#endif
}

}  // namespace longspan::cuda::ptx
