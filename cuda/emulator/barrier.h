#pragma once

#include "cuda/emulator/machine.h"

namespace longspan::emulator {

// A thread has ended: __syncthreads counts those that are left.
void blockBarrierAfterExit(Block& block);

}  // namespace longspan::emulator
