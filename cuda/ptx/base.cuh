// What every wrapper needs: the function prefix and shared-memory addresses.
#pragma once

#include "cuda/portable.cuh"
#if defined(LONGSPAN_EMULATED)
#include "cuda/emulator/instructions.h"
#endif

#define LONGSPAN_PTX static __device__ __forceinline__

// Whether the target that is being compiled has the instructions of sm_90, or of the feature set
// sm_90a (wgmma, setmaxnreg). The wrappers exist for every target, so that helpers can name them;
// the body of a kernel that uses them stands inside #if, and is launched on such devices only.
#if defined(LONGSPAN_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define LONGSPAN_SM90A 1
#else
#define LONGSPAN_SM90A 0
#endif
// Whether kernels that others of sm_90a replace may be left without a body; the emulator has one
// build for all GPUs.
#if LONGSPAN_SM90A && !defined(LONGSPAN_EMULATED)
#define LONGSPAN_SM90A_ALONE 1
#else
#define LONGSPAN_SM90A_ALONE 0
#endif
#if defined(LONGSPAN_EMULATED) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define LONGSPAN_SM90 1
#else
#define LONGSPAN_SM90 0
#endif

namespace longspan::cuda::ptx {

// The address of shared memory as instructions take it: 32 bits, 0 is the start of the block's own.
LONGSPAN_PTX uint32_t sharedAddress(const void* pointer) {
#if defined(LONGSPAN_EMULATED)
  return emulator::sharedAddress(pointer);
#else
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
#endif
}

}  // namespace longspan::cuda::ptx
