// Warp-wide matrix instructions of sm_80: ldmatrix, mma.sync; stmatrix of sm_90. Fragments, with
// g = lane / 4 and t = lane % 4, register i:
//   A 16x16 (16-bit): row g + 8 (i & 1), columns 2t + 8 (i >> 1) and the next
//   B 16x8  (16-bit): rows 2t + 8i and the next, column g
//   A 16x8  (tf32):   row g + 8 (i & 1), column t + 4 (i >> 1)
//   B 8x8   (tf32):   row t + 4i, column g
//   C, D 16x8 (f32):  row g + 8 (i >> 1), column 2t + (i & 1)
// Source: PTX ISA, "Matrix Fragments for mma.m16n8k16" and "mma.m16n8k8".
#pragma once

#include "cuda/ptx/base.cuh"

namespace longspan::cuda::ptx {

// Matrices 8x8 of 16-bit elements: lanes 8m..8m+7 give the 16-byte aligned rows of matrix m; lane l
// receives in r[m] elements (l/4, 2(l%4)) and the next.
template <int Matrices>
LONGSPAN_PTX void loadMatrix(uint32_t (&r)[Matrices], const void* row) {
  static_assert(Matrices == 1 || Matrices == 2 || Matrices == 4);
#if defined(LONGSPAN_EMULATED)
  emulator::loadMatrix(r, Matrices, false, row);
#else
  const uint32_t address = sharedAddress(row);
  if constexpr (Matrices == 4) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else if constexpr (Matrices == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(address)
                 : "memory");
  }
#endif
}

// As loadMatrix, but lane l receives elements (2(l%4), l/4) and the one below.
template <int Matrices>
LONGSPAN_PTX void loadMatrixTransposed(uint32_t (&r)[Matrices], const void* row) {
  static_assert(Matrices == 1 || Matrices == 2 || Matrices == 4);
#if defined(LONGSPAN_EMULATED)
  emulator::loadMatrix(r, Matrices, true, row);
#else
  const uint32_t address = sharedAddress(row);
  if constexpr (Matrices == 4) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else if constexpr (Matrices == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(address)
                 : "memory");
  }
#endif
}

// The inverse of loadMatrix.
template <int Matrices>
LONGSPAN_PTX void storeMatrix(void* row, const uint32_t (&r)[Matrices]) {
  static_assert(Matrices == 1 || Matrices == 2 || Matrices == 4);
#if defined(LONGSPAN_EMULATED)
  emulator::storeMatrix(row, r, Matrices, false);
#else
  const uint32_t address = sharedAddress(row);
  if constexpr (Matrices == 4) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
                 "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
  } else if constexpr (Matrices == 2) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1,%2};" ::"r"(address),
                 "r"(r[0]), "r"(r[1])
                 : "memory");
  } else {
    asm volatile("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};" ::"r"(address), "r"(r[0])
                 : "memory");
  }
#endif
}

// The inverse of loadMatrixTransposed.
template <int Matrices>
LONGSPAN_PTX void storeMatrixTransposed(void* row, const uint32_t (&r)[Matrices]) {
  static_assert(Matrices == 1 || Matrices == 2 || Matrices == 4);
#if defined(LONGSPAN_EMULATED)
  emulator::storeMatrix(row, r, Matrices, true);
#else
  const uint32_t address = sharedAddress(row);
  if constexpr (Matrices == 4) {
    asm volatile(
        "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(address),
        "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
        : "memory");
  } else if constexpr (Matrices == 2) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1,%2};" ::"r"(address),
                 "r"(r[0]), "r"(r[1])
                 : "memory");
  } else {
    asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0], {%1};" ::"r"(address),
                 "r"(r[0])
                 : "memory");
  }
#endif
}

// D += A B, 16x8x16, T = f16 or bf16, f32 accumulator.
template <class T>
LONGSPAN_PTX void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  static_assert(std::is_same_v<T, f16> || std::is_same_v<T, bf16>);
#if defined(LONGSPAN_EMULATED)
  const uint32_t b[2] = {b0, b1};
  emulator::mma16(d, a, b, std::is_same_v<T, bf16>);
#else
  if constexpr (std::is_same_v<T, bf16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
#endif
}

// f32 rounded to tf32 (10 mantissa bits, ties away from zero), as mmaTf32 takes it.
LONGSPAN_PTX uint32_t toTf32(float x) {
#if defined(LONGSPAN_EMULATED)
  return emulator::roundToTf32(x);
#else
  uint32_t y;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
  return y;
#endif
}

// D += A B, 16x8x8, operands tf32 (the low 13 bits are ignored), f32 accumulator.
LONGSPAN_PTX void mmaTf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if defined(LONGSPAN_EMULATED)
  const uint32_t b[2] = {b0, b1};
  emulator::mmaTf32(d, a, b);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

}  // namespace longspan::cuda::ptx
