// Checked accesses to memory, on behalf of a thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/emulator/machine.h"

namespace longspan::emulator {

// An access of the async proxy (bulk copies, wgmma) is not `generic`.
void accessShared(Fiber& fiber, size_t offset, size_t bytes, bool write, const void* pc,
                  bool generic = true);
void accessGlobal(Fiber& fiber, const void* address, size_t bytes, bool write, const void* pc,
                  bool atomic = false);

// Offset in the block's shared memory; ends the launch with `what` when p is elsewhere.
size_t sharedOffset(const void* p, const char* what, const void* pc);

// Reports a race in shared memory: `fiber` at pc, against `component` at otherPc.
void reportRace(const Fiber& fiber, const char* kind, size_t offset, const void* pc,
                uint16_t component, const void* otherPc);

}  // namespace longspan::emulator
