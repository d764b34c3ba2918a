// Vectors of the level being compiled: vf holds kLanes floats (v4 16, v3 8, portable 4), vd half as
// many doubles. They are GCC vector extensions, so + - * / and comparisons work as written (a
// comparison gives a mask of all-ones lanes for vselect); functions here add what operators cannot
// say. Memory need not be aligned. 16-bit floats exist in memory only: vload widens them to f32 and
// vstore rounds to nearest even, bit-equal to cpp/core/half.h.
//
// For *.simd.cc only; everything is inside the level's namespace, so that no function of a wide
// level can be linked into a narrower one.
#pragma once

#ifndef LONGSPAN_LEVEL
#error "cpp/cpu/simd.h is for *.simd.cc files, which are compiled once per instruction-set level"
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cpp/core/dtype.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define LONGSPAN_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define LONGSPAN_AVX2 1
#endif
#if defined(LONGSPAN_AVX512) || defined(LONGSPAN_AVX2)
#include <immintrin.h>
#endif

#define LONGSPAN_INLINE inline __attribute__((always_inline))

namespace longspan::cpu::LONGSPAN_LEVEL {

#if defined(LONGSPAN_AVX512)
inline constexpr int kVectorBytes = 64;
#elif defined(LONGSPAN_AVX2)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

inline constexpr int kLanes = kVectorBytes / 4;

typedef float vf __attribute__((vector_size(kVectorBytes)));
typedef double vd __attribute__((vector_size(kVectorBytes)));
typedef int32_t vi __attribute__((vector_size(kVectorBytes)));
typedef uint32_t vu __attribute__((vector_size(kVectorBytes)));
typedef int64_t vl __attribute__((vector_size(kVectorBytes)));
typedef uint16_t vh __attribute__((vector_size(kVectorBytes / 2)));

namespace unaligned {
typedef float f __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
typedef double d __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
typedef int32_t i __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
typedef uint16_t h __attribute__((vector_size(kVectorBytes / 2), aligned(2), may_alias));
}  // namespace unaligned

// The vector type of an accumulator type, the scalar and mask types of a vector.
template <class A>
struct VectorOf;
template <>
struct VectorOf<float> {
  using type = vf;
};
template <>
struct VectorOf<double> {
  using type = vd;
};
template <class A>
using Vector = typename VectorOf<A>::type;
template <class A>
inline constexpr int kLanesOf = kVectorBytes / static_cast<int>(sizeof(A));

// Every lane x.
LONGSPAN_INLINE vf vbroadcast(float x) {
#if defined(LONGSPAN_AVX512)
  return (vf)_mm512_set1_ps(x);
#elif defined(LONGSPAN_AVX2)
  return (vf)_mm256_set1_ps(x);
#else
  return vf{x, x, x, x};
#endif
}
LONGSPAN_INLINE vd vbroadcast(double x) {
#if defined(LONGSPAN_AVX512)
  return (vd)_mm512_set1_pd(x);
#elif defined(LONGSPAN_AVX2)
  return (vd)_mm256_set1_pd(x);
#else
  return vd{x, x};
#endif
}
LONGSPAN_INLINE vi vbroadcast(int32_t x) { return vi{} + x; }

// {0, 1, 2, ...}
LONGSPAN_INLINE vi vlaneIndex() {
  vi v{};
  for (int i = 0; i < kLanes; ++i) v[i] = i;
  return v;
}

// a * b + c, one rounding where the level has FMA.
LONGSPAN_INLINE vf vfma(vf a, vf b, vf c) {
#if defined(LONGSPAN_AVX512)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(LONGSPAN_AVX2)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
LONGSPAN_INLINE vd vfma(vd a, vd b, vd c) {
#if defined(LONGSPAN_AVX512)
  return (vd)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(LONGSPAN_AVX2)
  return (vd)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
  return a * b + c;
#endif
}

// mask ? a : b, lane by lane.
LONGSPAN_INLINE vf vselect(vi mask, vf a, vf b) { return mask ? a : b; }
LONGSPAN_INLINE vi vselect(vi mask, vi a, vi b) { return mask ? a : b; }
LONGSPAN_INLINE vd vselect(vl mask, vd a, vd b) { return mask ? a : b; }

// The second operand where either is NaN, as x86 has it: vmax(bound, x) keeps a NaN of x.
LONGSPAN_INLINE vf vmax(vf a, vf b) {
#if defined(LONGSPAN_AVX512)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(LONGSPAN_AVX2)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
LONGSPAN_INLINE vf vmin(vf a, vf b) {
#if defined(LONGSPAN_AVX512)
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(LONGSPAN_AVX2)
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}
LONGSPAN_INLINE vd vmax(vd a, vd b) { return a > b ? a : b; }
LONGSPAN_INLINE vd vmin(vd a, vd b) { return a < b ? a : b; }

LONGSPAN_INLINE vf vabs(vf x) { return (vf)((vi)x & 0x7fffffff); }
LONGSPAN_INLINE vd vabs(vd x) { return (vd)((vl)x & INT64_MAX); }

LONGSPAN_INLINE vf vsqrt(vf x) {
#if defined(LONGSPAN_AVX512)
  return (vf)_mm512_sqrt_ps((__m512)x);
#elif defined(LONGSPAN_AVX2)
  return (vf)_mm256_sqrt_ps((__m256)x);
#else
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}
LONGSPAN_INLINE vd vsqrt(vd x) {
  for (int i = 0; i < kLanesOf<double>; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
}

// Whether any lane of a mask is set.
LONGSPAN_INLINE bool vany(vi mask) {
#if defined(LONGSPAN_AVX512)
  return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif defined(LONGSPAN_AVX2)
  return _mm256_movemask_ps((__m256)mask) != 0;
#else
  return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

// Horizontal reductions, pairwise: lanes i and i + half first.
template <class V, class F>
LONGSPAN_INLINE auto vreduce(V x, F&& combine) {
  using A = std::remove_cvref_t<decltype(x[0])>;
  A lane[sizeof(V) / sizeof(A)];
  std::memcpy(lane, &x, sizeof(V));
#pragma GCC unroll 4
  for (int half = sizeof(V) / sizeof(A) / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) lane[i] = combine(lane[i], lane[i + half]);
  }
  return lane[0];
}
template <class V>
LONGSPAN_INLINE auto vsum(V x) {
  return vreduce(x, [](auto a, auto b) { return a + b; });
}
template <class V>
LONGSPAN_INLINE auto vmaximum(V x) {
  return vreduce(x, [](auto a, auto b) { return a > b ? a : b; });
}

// Loads of a whole vector.
LONGSPAN_INLINE vf vload(const float* p) { return *reinterpret_cast<const unaligned::f*>(p); }
LONGSPAN_INLINE vd vload(const double* p) { return *reinterpret_cast<const unaligned::d*>(p); }
LONGSPAN_INLINE vi vload(const int32_t* p) { return *reinterpret_cast<const unaligned::i*>(p); }
LONGSPAN_INLINE vf vload(const bf16* p) {
  const vh half = *reinterpret_cast<const unaligned::h*>(p);
  return (vf)(__builtin_convertvector(half, vu) << 16);
}
LONGSPAN_INLINE vf vload(const f16* p) {
#if defined(LONGSPAN_AVX512)
  return (vf)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(LONGSPAN_AVX2)
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  const vh half = *reinterpret_cast<const unaligned::h*>(p);
  const vu bits = __builtin_convertvector(half, vu);
  const vu sign = (bits & 0x8000u) << 16, magnitude = (bits & 0x7fffu) << 13;
  // Multiplying by 2^112 rebiases the exponent and normalises subnormals in one exact step.
  const vu scaled = (vu)((vf)magnitude * 0x1p112f);
  const vu special = magnitude | 0x7f800000u | ((vu)(magnitude > 0x0f800000u) & 0x400000u);
  return (vf)(sign | (magnitude >= 0x0f800000u ? special : scaled));
#endif
}

// Stores of a whole vector.
LONGSPAN_INLINE void vstore(float* p, vf x) { *reinterpret_cast<unaligned::f*>(p) = x; }
LONGSPAN_INLINE void vstore(double* p, vd x) { *reinterpret_cast<unaligned::d*>(p) = x; }
LONGSPAN_INLINE void vstore(int32_t* p, vi x) { *reinterpret_cast<unaligned::i*>(p) = x; }
LONGSPAN_INLINE void vstore(bf16* p, vf x) {
  const vu u = (vu)x;
  const vu rounded = u + 0x7fffu + ((u >> 16) & 1u);
  const vu kept = (u & 0x7fffffffu) > 0x7f800000u ? u | 0x400000u : rounded;  // NaN stays NaN
  *reinterpret_cast<unaligned::h*>(p) = __builtin_convertvector(kept >> 16, vh);
}
LONGSPAN_INLINE void vstore(f16* p, vf x) {
#if defined(LONGSPAN_AVX512)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(LONGSPAN_AVX2)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
  const vu u = (vu)x, sign = u & 0x80000000u, magnitude = u & 0x7fffffffu;
  const vu normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  // Adding 0.5 aligns the mantissa of a subnormal result, so that the addition rounds it.
  const vu subnormal = (vu)((vf)magnitude + 0.5f) - 0x3f000000u;
  const vu nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  vu half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x477ff000u ? vu{} + 0x7c00u : half;
  half = magnitude > 0x7f800000u ? nan : half;
  *reinterpret_cast<unaligned::h*>(p) = __builtin_convertvector(half | (sign >> 16), vh);
#endif
}

// The first n lanes, 0 <= n <= lanes; loads give 0 beyond them. Memory beyond is not touched.
template <class T>
LONGSPAN_INLINE auto vloadPart(const T* p, int n) {
  using V = decltype(vload(p));
#if defined(LONGSPAN_AVX512)
  if constexpr (std::is_same_v<T, float>) {
    return (vf)_mm512_maskz_loadu_ps(static_cast<__mmask16>(_bzhi_u32(0xffff, n)), p);
  } else
#endif
  {
    T lane[sizeof(V) / (std::is_same_v<V, vd> ? 8 : 4)] = {};
    std::memcpy(lane, p, static_cast<size_t>(n) * sizeof(T));
    return vload(lane);
  }
}
template <class T, class V>
LONGSPAN_INLINE void vstorePart(T* p, V x, int n) {
#if defined(LONGSPAN_AVX512)
  if constexpr (std::is_same_v<T, float>) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>(_bzhi_u32(0xffff, n)), (__m512)x);
  } else
#endif
  {
    T lane[sizeof(V) / (std::is_same_v<V, vd> ? 8 : 4)];
    vstore(lane, x);
    std::memcpy(p, lane, static_cast<size_t>(n) * sizeof(T));
  }
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
