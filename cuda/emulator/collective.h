// Operations that a whole warp, or the lanes of a mask, perform together: each lane leaves its
// argument, the last to arrive executes for all. They exchange registers; only __syncwarp orders
// memory.
#pragma once

#include "cuda/emulator/machine.h"

namespace longspan::emulator {

inline constexpr uint32_t kWholeWarp = 0xffffffffu;

const char* nameOf(Collective kind);

// Where the running lane stands: alone to complete it (true: execute), or it waited (false: done).
// `finished` receives the arguments of all lanes.
bool arrive(Collective kind, uint32_t mask, void* argument, const void* pc, Rendezvous* finished);
void release(const Rendezvous& finished);

template <class F>
void collective(Collective kind, uint32_t mask, void* argument, const void* pc, F&& execute) {
  Rendezvous all;
  if (!arrive(kind, mask, argument, pc, &all)) return;
  execute(running->block->warp[running->warp], all);
  release(all);
}

inline Fiber& laneOf(int lane) {
  return running->block->fibers[static_cast<size_t>(running->warp * 32 + lane)];
}

template <class T>
T& argumentOf(const Rendezvous& all, int lane) {
  return *static_cast<T*>(all.argument[lane]);
}

template <class F>
void forLanes(uint32_t mask, F&& f) {
  for (uint32_t left = mask; left != 0; left &= left - 1) f(__builtin_ctz(left));
}

}  // namespace longspan::emulator
