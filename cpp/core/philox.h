// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3).
// Counter-based: value i of stream (seed, offset) is a pure function, so every device, thread count
// and replay sees the same numbers. Plain C++ that also compiles as CUDA.
#pragma once

#include <cstdint>

#include "cpp/core/host_device.h"

namespace longspan {

struct PhiloxBlock {
  uint32_t word[4];
};

// The generator's state as operators see it: an i32[4] tensor {seed lo, seed hi, offset lo, offset
// hi}. Offset counts blocks of four words; an operator that draws n words advances it by ceil(n /
// 4).
struct PhiloxState {
  uint64_t seed;
  uint64_t offset;
};

LONGSPAN_HOST_DEVICE PhiloxState loadPhilox(const int32_t* state) {
  const auto word = [&](int i) { return static_cast<uint64_t>(static_cast<uint32_t>(state[i])); };
  return {word(0) | word(1) << 32, word(2) | word(3) << 32};
}

LONGSPAN_HOST_DEVICE void storePhilox(int32_t* state, PhiloxState s) {
  state[0] = static_cast<int32_t>(s.seed);
  state[1] = static_cast<int32_t>(s.seed >> 32);
  state[2] = static_cast<int32_t>(s.offset);
  state[3] = static_cast<int32_t>(s.offset >> 32);
}

LONGSPAN_HOST_DEVICE PhiloxBlock philox(PhiloxState state, uint64_t block) {
  const uint64_t counter = state.offset + block;
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0,
           c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(state.seed), k1 = static_cast<uint32_t>(state.seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(0xD2511F53u) * c0;
    const uint64_t p1 = static_cast<uint64_t>(0xCD9E8D57u) * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// [0, 1), 24 bits: exact in f32, the same on every device.
LONGSPAN_HOST_DEVICE float toUniform(uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f;
}

}  // namespace longspan
