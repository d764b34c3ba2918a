// What every wrapper needs: the function prefix and shared-memory addresses.
#pragma once

#include "cuda/portable.cuh"
#if defined(LONGSPAN_EMULATED)
#include "cuda/emulator/instructions.h"
#endif

#define LONGSPAN_PTX static __device__ __forceinline__

// Instructions of the sm_90a feature set are compiled for that target only; a kernel that uses them
// is launched on such devices only, and its body is empty elsewhere (LONGSPAN_SM90A_BODY).
#if defined(LONGSPAN_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define LONGSPAN_SM90A 1
#else
#define LONGSPAN_SM90A 0
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
