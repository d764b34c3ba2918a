#pragma once

#include "cuda/emulator/machine.h"

namespace longspan::emulator {

void resetWgmma(Warp& warp);
// A thread of a warp with wgmma state has ended.
void checkWgmmaAtExit(const Fiber& fiber);

}  // namespace longspan::emulator
