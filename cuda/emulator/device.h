// What a kernel file sees instead of nvcc's built-in declarations. Functions are declared in
// longspan::cuda, so that they hide what a C library may have under the same name.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cpp/core/half.h"
#include "cuda/emulator/instructions.h"
#include "cuda/emulator/launch.h"
#include "cuda/emulator/vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
// A shared array would silently become one per thread.
#define __shared__ static_assert(false, "use LONGSPAN_SHARED instead of __shared__");

#define threadIdx (::longspan::emulator::threadIndex())
#define blockIdx (::longspan::emulator::blockIndex())
#define blockDim (::longspan::emulator::blockSize())
#define gridDim (::longspan::emulator::gridSize())

#define LONGSPAN_SHARED(name) \
  uint8_t* const name = static_cast<uint8_t*>(::longspan::emulator::sharedMemory())

namespace longspan::cuda {

using emulator::launch;
using longspan::toFloat;

inline constexpr int warpSize = 32;

namespace detail {
__forceinline__ f16 narrow(float x, f16) { return toF16(x); }
__forceinline__ bf16 narrow(float x, bf16) { return toBf16(x); }

template <class T>
__forceinline__ T exchangeLanes(uint32_t mask, emulator::Shuffle mode, T value, int argument,
                                int width) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  return std::bit_cast<T>(static_cast<Bits>(
      emulator::shuffle(mask, mode, std::bit_cast<Bits>(value), argument, width)));
}
}  // namespace detail

// Barriers and fences.
__forceinline__ void __syncthreads() { emulator::barrierSync(0, 0); }
__forceinline__ int __syncthreads_or(int x) { return emulator::barrierReduce(x, 0); }
__forceinline__ int __syncthreads_and(int x) { return emulator::barrierReduce(x, 1); }
__forceinline__ int __syncthreads_count(int x) { return emulator::barrierReduce(x, 2); }
__forceinline__ void __syncwarp(uint32_t mask = 0xffffffffu) { emulator::syncWarp(mask); }
__forceinline__ void __threadfence() { emulator::fenceGlobal(); }
__forceinline__ void __threadfence_block() {}

// Warp-wide operations.
template <class T>
__forceinline__ T __shfl_sync(uint32_t mask, T x, int lane, int width = 32) {
  return detail::exchangeLanes(mask, emulator::Shuffle::index, x, lane, width);
}
template <class T>
__forceinline__ T __shfl_xor_sync(uint32_t mask, T x, int lanes, int width = 32) {
  return detail::exchangeLanes(mask, emulator::Shuffle::exclusiveOr, x, lanes, width);
}
template <class T>
__forceinline__ T __shfl_up_sync(uint32_t mask, T x, int delta, int width = 32) {
  return detail::exchangeLanes(mask, emulator::Shuffle::up, x, delta, width);
}
template <class T>
__forceinline__ T __shfl_down_sync(uint32_t mask, T x, int delta, int width = 32) {
  return detail::exchangeLanes(mask, emulator::Shuffle::down, x, delta, width);
}
__forceinline__ uint32_t __ballot_sync(uint32_t mask, int x) { return emulator::ballot(mask, x); }
__forceinline__ int __any_sync(uint32_t mask, int x) { return emulator::ballot(mask, x) != 0; }
__forceinline__ int __all_sync(uint32_t mask, int x) { return emulator::ballot(mask, x) == mask; }
__forceinline__ uint32_t __match_any_sync(uint32_t mask, uint32_t x) {
  return emulator::matchAny(mask, x);
}
__forceinline__ uint32_t __reduce_add_sync(uint32_t mask, uint32_t x) {
  return emulator::reduceLanes(mask, x, 0);
}
__forceinline__ uint32_t __reduce_max_sync(uint32_t mask, uint32_t x) {
  return emulator::reduceLanes(mask, x, 1);
}
__forceinline__ uint32_t __reduce_min_sync(uint32_t mask, uint32_t x) {
  return emulator::reduceLanes(mask, x, 2);
}

// Atomics: one thread runs at a time, so plain code is atomic; the emulator is told of the access.
#define LONGSPAN_ATOMIC(name, expression)                                                          \
  template <class T>                                                                               \
  __attribute__((noinline, no_sanitize("thread"))) T name(T* address, std::type_identity_t<T> x) { \
    emulator::noteAtomic(address, sizeof(T), __builtin_return_address(0));                         \
    const T old = *address;                                                                        \
    *address = (expression);                                                                       \
    return old;                                                                                    \
  }
LONGSPAN_ATOMIC(atomicAdd, static_cast<T>(old + x))
LONGSPAN_ATOMIC(atomicSub, static_cast<T>(old - x))
LONGSPAN_ATOMIC(atomicMax, old < x ? x : old)
LONGSPAN_ATOMIC(atomicMin, x < old ? x : old)
LONGSPAN_ATOMIC(atomicExch, x)
LONGSPAN_ATOMIC(atomicOr, static_cast<T>(old | x))
LONGSPAN_ATOMIC(atomicAnd, static_cast<T>(old& x))
LONGSPAN_ATOMIC(atomicInc, old >= x ? T{0} : static_cast<T>(old + 1))
#undef LONGSPAN_ATOMIC
template <class T>
__attribute__((noinline, no_sanitize("thread"))) T atomicCAS(T* address,
                                                             std::type_identity_t<T> expected,
                                                             std::type_identity_t<T> x) {
  emulator::noteAtomic(address, sizeof(T), __builtin_return_address(0));
  const T old = *address;
  if (old == expected) *address = x;
  return old;
}

// Loads and stores with a cache hint.
#define LONGSPAN_LOAD(name)                  \
  template <class T>                         \
  __forceinline__ T name(const T* address) { \
    return *address;                         \
  }
LONGSPAN_LOAD(__ldg)
LONGSPAN_LOAD(__ldcs)
LONGSPAN_LOAD(__ldca)
LONGSPAN_LOAD(__ldcg)
LONGSPAN_LOAD(__ldlu)
#undef LONGSPAN_LOAD
#define LONGSPAN_STORE(name)                                         \
  template <class T>                                                 \
  __forceinline__ void name(T* address, std::type_identity_t<T> x) { \
    *address = x;                                                    \
  }
LONGSPAN_STORE(__stcs)
LONGSPAN_STORE(__stcg)
LONGSPAN_STORE(__stwb)
LONGSPAN_STORE(__stwt)
#undef LONGSPAN_STORE

// Arithmetic. The __ forms are approximate on hardware and exactly rounded here.
using ::ceilf, ::cosf, ::erfcf, ::erff, ::exp2f, ::expf, ::expm1f, ::fabsf, ::floorf, ::fmaf,
    ::fmaxf, ::fminf, ::fmodf, ::log1pf, ::log2f, ::logf, ::powf, ::rintf, ::roundf, ::sinf,
    ::sqrtf, ::tanf, ::tanhf, ::truncf;
using std::isfinite, std::isinf, std::isnan;
__forceinline__ float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
__forceinline__ void sincosf(float x, float* sine, float* cosine) {
  *sine = std::sin(x);
  *cosine = std::cos(x);
}
__forceinline__ float __expf(float x) { return std::exp(x); }
__forceinline__ float __exp2f(float x) { return std::exp2(x); }
__forceinline__ float __logf(float x) { return std::log(x); }
__forceinline__ float __log2f(float x) { return std::log2(x); }
__forceinline__ float __sinf(float x) { return std::sin(x); }
__forceinline__ float __cosf(float x) { return std::cos(x); }
__forceinline__ float __powf(float x, float y) { return std::pow(x, y); }
__forceinline__ float __fdividef(float a, float b) { return a / b; }
__forceinline__ float __frcp_rn(float x) { return 1.0f / x; }
__forceinline__ float __fsqrt_rn(float x) { return std::sqrt(x); }
__forceinline__ float __frsqrt_rn(float x) { return 1.0f / std::sqrt(x); }
// The compiler never fuses these (the emulated kernels are compiled without contraction).
__forceinline__ float __fadd_rn(float a, float b) { return a + b; }
__forceinline__ float __fsub_rn(float a, float b) { return a - b; }
__forceinline__ float __fmul_rn(float a, float b) { return a * b; }
__forceinline__ float __fdiv_rn(float a, float b) { return a / b; }
__forceinline__ float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
__forceinline__ float __saturatef(float x) { return std::fmin(std::fmax(x, 0.f), 1.f); }

#define LONGSPAN_MINMAX(T)                                            \
  __forceinline__ constexpr T min(T a, T b) { return b < a ? b : a; } \
  __forceinline__ constexpr T max(T a, T b) { return a < b ? b : a; }
LONGSPAN_MINMAX(int)
LONGSPAN_MINMAX(unsigned)
LONGSPAN_MINMAX(long)
LONGSPAN_MINMAX(unsigned long)
LONGSPAN_MINMAX(long long)
LONGSPAN_MINMAX(unsigned long long)
#undef LONGSPAN_MINMAX
__forceinline__ float min(float a, float b) { return std::fmin(a, b); }
__forceinline__ float max(float a, float b) { return std::fmax(a, b); }

// Bits.
__forceinline__ uint32_t __float_as_uint(float x) { return std::bit_cast<uint32_t>(x); }
__forceinline__ int __float_as_int(float x) { return std::bit_cast<int>(x); }
__forceinline__ float __uint_as_float(uint32_t x) { return std::bit_cast<float>(x); }
__forceinline__ float __int_as_float(int x) { return std::bit_cast<float>(x); }
__forceinline__ int __popc(uint32_t x) { return std::popcount(x); }
__forceinline__ int __popcll(uint64_t x) { return std::popcount(x); }
__forceinline__ int __clz(int x) { return std::countl_zero(static_cast<uint32_t>(x)); }
__forceinline__ int __clzll(long long x) { return std::countl_zero(static_cast<uint64_t>(x)); }
__forceinline__ int __ffs(int x) { return __builtin_ffs(x); }
__forceinline__ uint32_t __brev(uint32_t x) {
  x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
  x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
  x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
  return __builtin_bswap32(x);
}
__forceinline__ uint32_t __umulhi(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(static_cast<uint64_t>(a) * b >> 32);
}
__forceinline__ int __mulhi(int a, int b) {
  return static_cast<int>(static_cast<int64_t>(a) * b >> 32);
}
__forceinline__ uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
__forceinline__ uint32_t __funnelshift_l(uint32_t low, uint32_t high, uint32_t shift) {
  return static_cast<uint32_t>((static_cast<uint64_t>(high) << 32 | low) << (shift & 31) >> 32);
}
__forceinline__ uint32_t __funnelshift_r(uint32_t low, uint32_t high, uint32_t shift) {
  return static_cast<uint32_t>((static_cast<uint64_t>(high) << 32 | low) >> (shift & 31));
}
__forceinline__ uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    result |= static_cast<uint32_t>(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  }
  return result;
}

// Conversions of floats to integers saturate, and NaN becomes 0.
namespace detail {
template <class T>
__forceinline__ T saturate(float x) {
  if (std::isnan(x)) return 0;
  constexpr float kLow = std::is_signed_v<T> ? -0x1p31f : 0.f;
  constexpr float kHigh = std::is_signed_v<T> ? 0x1p31f : 0x1p32f;
  if (x <= kLow) return std::is_signed_v<T> ? static_cast<T>(INT32_MIN) : T{0};
  if (x >= kHigh) return std::is_signed_v<T> ? static_cast<T>(INT32_MAX) : static_cast<T>(~0u);
  return static_cast<T>(x);
}
}  // namespace detail
__forceinline__ int __float2int_rn(float x) { return detail::saturate<int>(std::nearbyint(x)); }
__forceinline__ int __float2int_rz(float x) { return detail::saturate<int>(std::trunc(x)); }
__forceinline__ int __float2int_rd(float x) { return detail::saturate<int>(std::floor(x)); }
__forceinline__ int __float2int_ru(float x) { return detail::saturate<int>(std::ceil(x)); }
__forceinline__ uint32_t __float2uint_rz(float x) {
  return detail::saturate<uint32_t>(std::trunc(x));
}
__forceinline__ uint32_t __float2uint_rn(float x) {
  return detail::saturate<uint32_t>(std::nearbyint(x));
}
__forceinline__ float __int2float_rn(int x) { return static_cast<float>(x); }
__forceinline__ float __uint2float_rn(uint32_t x) { return static_cast<float>(x); }

__forceinline__ void __nanosleep(uint32_t) { emulator::yield(); }
[[noreturn]] __forceinline__ void __trap() { emulator::trap(); }

}  // namespace longspan::cuda
