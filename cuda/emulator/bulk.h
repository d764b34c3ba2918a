#pragma once

#include "cuda/emulator/machine.h"

namespace longspan::emulator {

// Delivers one of the bulk loads in flight, drawn at random.
void landRandomLoad(Machine& m);
// A thread has ended: its stores must have been waited for; outstanding writes happen now.
void checkStoresAtExit(Fiber& fiber);

}  // namespace longspan::emulator
