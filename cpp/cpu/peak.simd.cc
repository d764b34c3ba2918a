#include "cpp/cpu/peak.h"

#include "cpp/cpu/simd.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

// Enough chains to hide the latency of two FMA units (4 cycles each), few enough for the register
// file.
#if defined(LONGSPAN_AVX512) || defined(__aarch64__)
constexpr int kChains = 16;
#else
constexpr int kChains = 12;
#endif

double multiplyAddRounds(int64_t rounds, float* sink) {
  vf c[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) c[i] = vbroadcast(1.0f + static_cast<float>(i));
  const vf x = vbroadcast(0.999f), y = vbroadcast(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) c[i] = vfma(c[i], x, y);
  }
  vf sum = c[0];
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) sum += c[i];
  *sink = vsum(sum);
  return 2.0 * kLanes * kChains * static_cast<double>(rounds);
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
