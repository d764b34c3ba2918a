#pragma once

#include "cuda/emulator/machine.h"

namespace longspan::emulator {

// A thread has ended: __syncthreads counts those that are left.
void blockBarrierAfterExit(Block& block);

// After a launch: tells of the barrier that was left out in it for the first time, if one was.
void tellOfSkippedBarrier();

}  // namespace longspan::emulator
