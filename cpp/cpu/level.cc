#include "cpp/cpu/level.h"

#include <cstdlib>
#include <cstring>

namespace longspan::cpu {
namespace {

constexpr const char* kNames[] = {"portable", "v3", "v4"};

Level detect() {
  int best = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  best = v4 ? 2 : v3 ? 1 : 0;
#endif
  if (const char* wanted = std::getenv("LONGSPAN_CPU_LEVEL")) {
    for (int i = 0; i < best; ++i) {
      if (std::strcmp(wanted, kNames[i]) == 0) return static_cast<Level>(i);
    }
  }
  return static_cast<Level>(best);
}

}  // namespace

Level level() {
  static const Level chosen = detect();
  return chosen;
}

const char* levelName() { return kNames[static_cast<int>(level())]; }

}  // namespace longspan::cpu
