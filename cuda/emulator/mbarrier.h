#pragma once

#include "cuda/emulator/machine.h"

namespace longspan::emulator {

// The barrier object at this address, checked; ends the launch when it was never initialised.
Mbarrier& mbarrierAt(const void* barrier, const void* pc);
// A bulk copy has delivered: its bytes count down.
void mbarrierDelivered(Block& block, Mbarrier& barrier, size_t bytes);

}  // namespace longspan::emulator
