// The register micro-kernel that GEMM and attention share, and register transposes.
//
// A tile of C is MR rows of NR vectors held in registers; each step of k loads NR vectors of b and
// broadcasts MR scalars of a: 2 MR NR lanes FLOPs for MR + NR loads. kTileRows x kTileVectors
// leaves room for b and one broadcast in the register file (32 registers at v4 and arm64, 16
// elsewhere).
#pragma once

#include "cpp/core/half.h"
#include "cpp/cpu/simd.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

constexpr int64_t roundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

inline constexpr int kTileRows = 4;
#if defined(LONGSPAN_AVX512) || defined(__aarch64__)
#define LONGSPAN_TILE_VECTORS 4  // of 32 registers; there are 16 elsewhere
#elif defined(LONGSPAN_AVX2)
#define LONGSPAN_TILE_VECTORS 3
#else
#define LONGSPAN_TILE_VECTORS 2  // the product needs a register of its own without FMA
#endif
inline constexpr int kTileVectors = LONGSPAN_TILE_VECTORS;
inline constexpr bool kManyRegisters = kTileVectors == 4;

// Keeps a load in a register: compilers otherwise fold it into every FMA as a memory operand, which
// costs up to a quarter of the speed for broadcasts and a twentieth for vectors.
template <class V>
LONGSPAN_INLINE V inRegister(V x) {
#if defined(LONGSPAN_AVX512)
  asm("" : "+v"(x));
#elif defined(__x86_64__)
  asm("" : "+x"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#endif
  return x;
}

// c[r][v] += sum over i < k of a[i * aStep + r * aRow] * b[i * bStep + v * lanes + lane].
// A is float or double, B the same or a 16-bit float. Strides are in elements. Vectors before
// kFirst are left alone.
template <int MR, int NR, int kFirst = 0, class A, class B>
LONGSPAN_INLINE void tileMultiply(int64_t k, const A* __restrict a, int64_t aStep, int64_t aRow,
                                  const B* __restrict b, int64_t bStep, Vector<A> (&c)[MR][NR]) {
  constexpr int lanes = kLanesOf<A>;
  for (int64_t i = 0; i < k; ++i) {
    Vector<A> bv[NR];
#pragma GCC unroll 16
    for (int v = kFirst; v < NR; ++v) {
      bv[v] = vload(b + v * lanes);
      if constexpr (kManyRegisters) bv[v] = inRegister(bv[v]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) {
      const Vector<A> x = inRegister(vbroadcast(a[r * aRow]));
#pragma GCC unroll 16
      for (int v = kFirst; v < NR; ++v) c[r][v] = vfma(x, bv[v], c[r][v]);
    }
    a += aStep;
    b += bStep;
  }
}

template <int MR, int NR, class V>
LONGSPAN_INLINE void tileClear(V (&c)[MR][NR]) {
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < NR; ++v) c[r][v] = V{};
  }
}

// Transposes kLanes x kLanes floats: target[j * targetRow + i] = source[i * sourceRow + j]. The
// source may be a 16-bit float, which is widened.
template <class T>
LONGSPAN_INLINE void transposeSquare(const T* source, int64_t sourceRow, float* target,
                                     int64_t targetRow) {
#if defined(LONGSPAN_AVX512)
  __m512 r[16], t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = (__m512)vload(source + i * sourceRow);
#pragma GCC unroll 16
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
  const auto low = [](__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  const auto high = [](__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
#pragma GCC unroll 16
  for (int i = 0; i < 4; ++i) {
    r[4 * i] = low(t[4 * i], t[4 * i + 2]);
    r[4 * i + 1] = high(t[4 * i], t[4 * i + 2]);
    r[4 * i + 2] = low(t[4 * i + 1], t[4 * i + 3]);
    r[4 * i + 3] = high(t[4 * i + 1], t[4 * i + 3]);
  }
  // Now r[4 g + i] holds columns i, 4 + i, 8 + i, 12 + i of rows 4 g .. 4 g + 3, 128 bits each.
#pragma GCC unroll 16
  for (int i = 0; i < 4; ++i) {
    const __m512 a = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88),
                 b = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
    const __m512 c = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
    const __m512 d = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
    vstore(target + i * targetRow, (vf)_mm512_shuffle_f32x4(a, c, 0x88));
    vstore(target + (4 + i) * targetRow, (vf)_mm512_shuffle_f32x4(b, d, 0x88));
    vstore(target + (8 + i) * targetRow, (vf)_mm512_shuffle_f32x4(a, c, 0xdd));
    vstore(target + (12 + i) * targetRow, (vf)_mm512_shuffle_f32x4(b, d, 0xdd));
  }
#elif defined(LONGSPAN_AVX2)
  __m256 r[8], t[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) r[i] = (__m256)vload(source + i * sourceRow);
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 2; ++i) {
    r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i) {
    vstore(target + i * targetRow, (vf)_mm256_permute2f128_ps(r[i], r[4 + i], 0x20));
    vstore(target + (4 + i) * targetRow, (vf)_mm256_permute2f128_ps(r[i], r[4 + i], 0x31));
  }
#else
  vf r[4];
  for (int i = 0; i < 4; ++i) r[i] = vload(source + i * sourceRow);
  for (int j = 0; j < 4; ++j)
    vstore(target + j * targetRow, vf{r[0][j], r[1][j], r[2][j], r[3][j]});
#endif
}

// target[j * targetRow + i] = source[i * sourceRow + j] for i < rows, j < columns; lanes i from
// rows up to the next multiple of kLanes become 0 (targetRow must allow it).
template <class T>
LONGSPAN_INLINE void transposeBlock(const T* source, int64_t sourceRow, int64_t rows,
                                    int64_t columns, float* target, int64_t targetRow) {
  for (int64_t i = 0; i < rows; i += kLanes) {
    int64_t j = 0;
    if (i + kLanes <= rows) {
      for (; j + kLanes <= columns; j += kLanes) {
        transposeSquare(source + i * sourceRow + j, sourceRow, target + j * targetRow + i,
                        targetRow);
      }
    }
    const int filled = static_cast<int>(rows - i < kLanes ? rows - i : kLanes);
    for (; j < columns; ++j) {
      for (int lane = 0; lane < kLanes; ++lane) {
        target[j * targetRow + i + lane] =
            lane < filled ? static_cast<float>(load(source[(i + lane) * sourceRow + j])) : 0.0f;
      }
    }
  }
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
