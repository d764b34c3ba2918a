// The settings in force. Guarded by the machine's lock.
#pragma once

#include <cstddef>

#include "cuda/emulator/control.h"

namespace longspan::emulator {

inline constexpr int kMaxDevices = 8;

struct Environment {
  Settings settings;
  int devices = 1;
  size_t memory = 0;
  int multiprocessors = 4;
  uint64_t failLaunch = 0;    // number of the launch that fails, 0: none
  uint64_t loseAtLaunch = 0;  // number of the launch that finds its device lost
  uint64_t skipBarrier = 0;   // number of the __syncthreads that does nothing, 0: none
};

Environment& environment();

}  // namespace longspan::emulator
