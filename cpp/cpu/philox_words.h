// Philox words in bulk: 16 blocks at a time in vector lanes of 64 bits, each with one 32-bit word.
#pragma once

#include "cpp/core/philox.h"
#include "cpp/cpu/simd.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace longspan::cpu::LONGSPAN_LEVEL {

inline constexpr int kPhiloxBlocks = 16;
inline constexpr int kPhiloxWords = 4 * kPhiloxBlocks;

typedef uint64_t vq __attribute__((vector_size(kVectorBytes)));

// Low halves multiplied to 64 bits. Upper halves are ignored, so words need not be masked.
LONGSPAN_INLINE vq vmulLow(vq a, uint32_t b) {
  const vq factor = vq{} + b;
#if defined(LONGSPAN_AVX512)
  return (vq)_mm512_mul_epu32((__m512i)a, (__m512i)factor);
#elif defined(LONGSPAN_AVX2)
  return (vq)_mm256_mul_epu32((__m256i)a, (__m256i)factor);
#elif defined(__SSE2__)
  return (vq)_mm_mul_epu32((__m128i)a, (__m128i)factor);
#else
  return (a & 0xffffffffu) * factor;
#endif
}

// words[0 .. 64): blocks first .. first + 16 after the state.
[[gnu::noinline]] inline void philoxWords(PhiloxState state, uint64_t first, uint32_t* words) {
  constexpr int kWide = kVectorBytes / 8, kCount = kPhiloxBlocks / kWide;
  vq c0[kCount], c1[kCount], c2[kCount], c3[kCount];
  for (int n = 0; n < kCount; ++n) {
    vq counter{};
    for (int l = 0; l < kWide; ++l)
      counter[l] = state.offset + first + static_cast<uint64_t>(n * kWide + l);
    c0[n] = counter;
    c1[n] = c0[n] >> 32;
    c2[n] = c3[n] = vq{};
  }
  uint32_t k0 = static_cast<uint32_t>(state.seed), k1 = static_cast<uint32_t>(state.seed >> 32);
  for (int round = 0; round < 10; ++round) {
#pragma GCC unroll 8
    for (int n = 0; n < kCount; ++n) {
      const vq p0 = vmulLow(c0[n], 0xD2511F53u), p1 = vmulLow(c2[n], 0xCD9E8D57u);
      c0[n] = (p1 >> 32) ^ c1[n] ^ k0;
      c1[n] = p1;
      c2[n] = (p0 >> 32) ^ c3[n] ^ k1;
      c3[n] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  uint64_t front[kPhiloxBlocks], back[kPhiloxBlocks];  // words 0, 1 and words 2, 3 of each block
  for (int n = 0; n < kCount; ++n) {
    const vq f = (c0[n] & 0xffffffffu) | c1[n] << 32, b = (c2[n] & 0xffffffffu) | c3[n] << 32;
    std::memcpy(front + n * kWide, &f, sizeof f);
    std::memcpy(back + n * kWide, &b, sizeof b);
  }
  for (int l = 0; l < kPhiloxBlocks; ++l) {
    words[4 * l] = static_cast<uint32_t>(front[l]);
    words[4 * l + 1] = static_cast<uint32_t>(front[l] >> 32);
    words[4 * l + 2] = static_cast<uint32_t>(back[l]);
    words[4 * l + 3] = static_cast<uint32_t>(back[l] >> 32);
  }
}

// Elements that are drawn for and worked on together.
inline constexpr int kPhiloxTile = 8 * kPhiloxWords;

// Calls body(first, count, words) for tiles of at most kPhiloxTile elements that cover [0, n); all
// words of a tile are there, whatever its count.
template <class Pool, class F>
inline void forPhiloxTiles(Pool& pool, PhiloxState state, int64_t n, F&& body) {
  pool.forRange(n, 32 * kPhiloxTile, [&](int64_t begin, int64_t end) {
    uint32_t words[kPhiloxTile];
    for (int64_t first = begin; first < end; first += kPhiloxTile) {
      for (int done = 0; done < kPhiloxTile; done += kPhiloxWords) {
        philoxWords(state, static_cast<uint64_t>((first + done) / 4), words + done);
      }
      body(first, end - first < kPhiloxTile ? end - first : int64_t{kPhiloxTile}, words);
    }
  });
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
