// What a kernel program asks of the machine it runs on: on the emulator schedules and what launches
// found; a GPU chooses its own schedule and reports nothing, which is what compute-sanitizer is
// for.
#pragma once

#if defined(LONGSPAN_EMULATED)
#include "cuda/emulator/control.h"

namespace longspan {

inline bool hasCode(int) { return true; }

}  // namespace longspan
#else
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/core/sm90a.h"

namespace longspan {

// Of products and attention in 16 bits a GPU has the kernels for sm_90a (90) or the others (80).
inline bool hasCode(int capability) {
  static const bool hopper = cuda::runsSm90a({0, 9, 0, 1, 0});
  return hopper == (capability == 90);
}

}  // namespace longspan

namespace longspan::emulator {

struct Settings {
  uint64_t seed = 1;
  bool lateAsync = true;
  int residentBlocks = 2;
};
struct LaunchReport {
  std::vector<std::string> errors;
  struct {
    uint64_t ldmatrixExtraPhases = 0;
  } stats;
};

inline uint64_t runs = 0;
inline Settings settings() { return {}; }
inline void setSettings(const Settings&) { ++runs; }  // once before every run of a kernel
inline LaunchReport lastLaunch() { return {}; }
inline uint64_t failedLaunches() { return 0; }
inline uint64_t launchesSoFar() { return runs; }

}  // namespace longspan::emulator
#endif
