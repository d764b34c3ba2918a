// Philox words in bulk: 16 blocks at a time, so that the compiler computes them in vector lanes.
#pragma once

#include "cpp/core/philox.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

inline constexpr int kPhiloxBlocks = 16;
inline constexpr int kPhiloxWords = 4 * kPhiloxBlocks;

// words[0 .. 64): blocks first .. first + 16 after the state.
inline void philoxWords(PhiloxState state, uint64_t first, uint32_t* words) {
  uint32_t c[4][kPhiloxBlocks];
  for (int l = 0; l < kPhiloxBlocks; ++l) {
    const uint64_t counter = state.offset + first + static_cast<uint64_t>(l);
    c[0][l] = static_cast<uint32_t>(counter);
    c[1][l] = static_cast<uint32_t>(counter >> 32);
    c[2][l] = c[3][l] = 0;
  }
  uint32_t k0 = static_cast<uint32_t>(state.seed), k1 = static_cast<uint32_t>(state.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int l = 0; l < kPhiloxBlocks; ++l) {
      const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c[0][l];
      const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c[2][l];
      c[0][l] = static_cast<uint32_t>(p1 >> 32) ^ c[1][l] ^ k0;
      c[1][l] = static_cast<uint32_t>(p1);
      c[2][l] = static_cast<uint32_t>(p0 >> 32) ^ c[3][l] ^ k1;
      c[3][l] = static_cast<uint32_t>(p0);
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int l = 0; l < kPhiloxBlocks; ++l) {
    for (int k = 0; k < 4; ++k) words[4 * l + k] = c[k][l];
  }
}

// Calls body(first, count, words) for tiles of at most 64 elements that cover [0, n).
template <class Pool, class F>
inline void forPhiloxTiles(Pool& pool, PhiloxState state, int64_t n, F&& body) {
  constexpr int64_t kGrain = 256 * kPhiloxWords;
  pool.forRange(n, kGrain, [&](int64_t begin, int64_t end) {
    uint32_t words[kPhiloxWords];
    for (int64_t first = begin; first < end; first += kPhiloxWords) {
      philoxWords(state, static_cast<uint64_t>(first / 4), words);
      body(first, end - first < kPhiloxWords ? end - first : int64_t{kPhiloxWords}, words);
    }
  });
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
