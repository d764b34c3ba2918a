// The one place that knows which world compiles a kernel: nvcc, or a C++ compiler against the
// emulator (LONGSPAN_EMULATED). Kernels and launchers include this file (and ptx.cuh for single
// instructions) and live in namespace longspan::cuda, where the emulator declares CUDA's functions.
//
// A kernel keeps to this:
//   __global__ void scale(float* x, int64_t n, float a);           // no class, no reference
//   argument LONGSPAN_SHARED(tile);                                         // not __shared__: one
//   dynamic block launch(scale, dim3(blocks), dim3(256), 0, stream, x, n, a);    // not <<<>>>
// Functions that return a 16-bit float or a vector type are __forceinline__: GCC does not show the
// emulator a store whose value comes straight out of a call.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpp/core/dtype.h"
#include "cuda/runtime.h"

#if defined(LONGSPAN_EMULATED)
#include "cuda/emulator/device.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace longspan::cuda {

// Two 16-bit floats in one register, the lower index in the lower half; element type for 4-byte
// accesses and packed atomics.
template <class T>
struct alignas(4) Pair {
  T x, y;
};

// N elements moved in one access of up to 16 bytes; the address is aligned to all of them.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  static_assert(sizeof(T) * N <= 16);
  T at[N];
};

#if defined(__CUDACC__)

__device__ __forceinline__ float toFloat(f16 x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ __forceinline__ float toFloat(bf16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}

namespace detail {
__device__ __forceinline__ f16 narrow(float x, f16) {
  return {__half_as_ushort(__float2half_rn(x))};
}
__device__ __forceinline__ bf16 narrow(float x, bf16) {
  return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
}  // namespace detail

// Dynamic shared memory of the block as `uint8_t* name`, aligned to 1024 bytes.
#define LONGSPAN_SHARED(name) extern __shared__ __align__(1024) uint8_t name[]

template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t sharedBytes,
                   cudaStream_t stream, A... arguments) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernel arguments are copied as bytes");
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (sharedBytes > kWithoutAsking) {
    const cudaError_t error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(sharedBytes));
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, block, sharedBytes, stream>>>(static_cast<P>(arguments)...);
  return cudaGetLastError();
}

#endif

// Plain C++ beside nvcc sees the types alone.
#if defined(__CUDACC__) || defined(LONGSPAN_EMULATED)

__device__ __forceinline__ float toFloat(float x) { return x; }
__device__ __forceinline__ float toFloat(int32_t x) { return static_cast<float>(x); }
__device__ __forceinline__ float toFloat(uint8_t x) { return x; }

// Rounds to nearest even.
template <class T>
__device__ __forceinline__ T fromFloat(float x) {
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) {
    return detail::narrow(x, T{});
  } else {
    return static_cast<T>(x);
  }
}

template <class To, class From>
__device__ __forceinline__ To bitCast(From x) {
  static_assert(sizeof(To) == sizeof(From));
  return __builtin_bit_cast(To, x);
}

// The operand form of mma: `low` is the element with the lower index.
template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high) {
  return static_cast<uint32_t>(fromFloat<T>(low).bits) |
         static_cast<uint32_t>(fromFloat<T>(high).bits) << 16;
}

template <class T>
__device__ __forceinline__ float2 unpack(uint32_t pair) {
  return make_float2(toFloat(T{static_cast<uint16_t>(pair)}),
                     toFloat(T{static_cast<uint16_t>(pair >> 16)}));
}

#endif

}  // namespace longspan::cuda
