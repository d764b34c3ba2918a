// Memory order between blocks: acquire and release on global flags, and waiting for one. A plain
// load in a loop would never yield in the emulator and may be hoisted by nvcc. Source: PTX ISA,
// "Memory Consistency Model".
#pragma once

#include "cuda/ptx/base.cuh"

namespace longspan::cuda::ptx {

LONGSPAN_PTX uint32_t loadAcquire(const uint32_t* flag) {
#if defined(LONGSPAN_EMULATED)
  return emulator::loadAcquire(flag);
#else
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
#endif
}

LONGSPAN_PTX void storeRelease(uint32_t* flag, uint32_t value) {
#if defined(LONGSPAN_EMULATED)
  emulator::storeRelease(flag, value);
#else
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
#endif
}

// Adds after everything this thread has written or learnt; returns the previous value and acquires
// what earlier adders released. "The last block reduces" needs no other fence.
LONGSPAN_PTX uint32_t addAcquireRelease(uint32_t* flag, uint32_t value) {
#if defined(LONGSPAN_EMULATED)
  return emulator::addAcquireRelease(flag, value);
#else
  uint32_t old;
  asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;"
               : "=r"(old)
               : "l"(flag), "r"(value)
               : "memory");
  return old;
#endif
}

// One thread waits until another block has stored `value` at *flag.
LONGSPAN_PTX void waitUntilEqual(const uint32_t* flag, uint32_t value) {
  while (loadAcquire(flag) != value) {
#if defined(LONGSPAN_EMULATED)
    emulator::yield();
#elif __CUDA_ARCH__ >= 700
    __nanosleep(32);
#endif
  }
}

// Programmatic dependent launch: waits for the kernel before, lets the kernel after start.
LONGSPAN_PTX void gridDependencyWait() {
#if !defined(LONGSPAN_EMULATED)
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

LONGSPAN_PTX void gridDependencyLaunch() {
#if !defined(LONGSPAN_EMULATED)
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace longspan::cuda::ptx
