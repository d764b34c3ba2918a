// mbarrier objects: arrivals and expected bytes per phase, waiting for the parity of a phase.
#include "cuda/emulator/mbarrier.h"

#include "cuda/emulator/access.h"
#include "cuda/emulator/instructions.h"

namespace longspan::emulator {
namespace {

void completePhaseIfDue(Block& block, Mbarrier& b) {
  if (b.pendingArrivals != 0 || b.pendingBytes != 0) return;
  b.phase++;
  machine().progress = true;
  b.pendingArrivals = b.count;
  b.published = b.gathered.sum();
  auto waiters = std::move(b.waiters);
  b.waiters.clear();
  for (const auto& [fiber, parity] : waiters) {
    if ((b.phase & 1) != parity) {
      fiber->known = block.joiner.join(fiber->known, b.published);
      wake(*fiber);
    } else {
      b.waiters.push_back({fiber, parity});
    }
  }
}

bool completed(const Mbarrier& b, uint32_t parity) { return (b.phase & 1) != (parity & 1); }

}  // namespace

Mbarrier& mbarrierAt(const void* barrier, const void* pc) {
  const size_t offset = sharedOffset(barrier, "mbarrier", pc);
  Block& block = *running->block;
  if (offset % 8 != 0) fatalAt("mbarrier misaligned", pc);
  const auto it = block.mbarriers.find(static_cast<uint32_t>(offset));
  if (it == block.mbarriers.end()) fatalAt("mbarrier used before mbarrier.init", pc);
  Mbarrier& b = it->second;
  if (machine().checks && !running->knows(b.initialiser, b.initTime)) {
    finding("mbarrierInit",
            "RACE mbarrier used without synchronisation with its init, at " + atLine(pc));
  }
  return b;
}

void mbarrierDelivered(Block& block, Mbarrier& b, size_t bytes) {
  b.pendingBytes -= static_cast<int64_t>(bytes);
  completePhaseIfDue(block, b);
}

void mbarrierInit(const void* barrier, uint32_t arrivals) {
  const void* pc = __builtin_return_address(0);
  const size_t offset = sharedOffset(barrier, "mbarrier", pc);
  Fiber& me = *running;
  Block& block = *me.block;
  if (offset % 8 != 0) fatalAt("mbarrier misaligned", pc);
  accessShared(me, offset, 8, true, pc);
  Mbarrier& b = block.mbarriers[static_cast<uint32_t>(offset)];
  b = {};
  b.index = static_cast<int>(block.mbarriers.size()) - 1;
  if (b.index >= kMaxMbarriers) fatalAt("more mbarriers than the emulator has room for", pc);
  b.count = arrivals;
  b.pendingArrivals = arrivals;
  b.initialiser = me.id;
  b.initTime = me.time;
}

void mbarrierArrive(const void* barrier, uint32_t expectedBytes, bool arrive) {
  const void* pc = __builtin_return_address(0);
  Mbarrier& b = mbarrierAt(barrier, pc);
  Fiber& me = *running;
  b.pendingBytes += expectedBytes;
  if (!arrive) return;
  if (b.pendingArrivals <= 0) fatalAt("mbarrier: more arrivals than its count in one phase", pc);
  b.gathered.add(me.known, me.id, me.time);
  me.time++;
  b.pendingArrivals--;
  completePhaseIfDue(*me.block, b);
}

bool mbarrierTryWait(const void* barrier, uint32_t parity) {
  Mbarrier& b = mbarrierAt(barrier, __builtin_return_address(0));
  Fiber& me = *running;
  if (!completed(b, parity)) {
    yield();  // a loop around it must not keep the others from running
    if (!completed(b, parity)) return false;
  }
  me.known = me.block->joiner.join(me.known, b.published);
  return true;
}

void mbarrierWait(const void* barrier, uint32_t parity) {
  const void* pc = __builtin_return_address(0);
  Mbarrier& b = mbarrierAt(barrier, pc);
  Fiber& me = *running;
  if (completed(b, parity)) {
    me.known = me.block->joiner.join(me.known, b.published);
    return;
  }
  b.waiters.push_back({&me, parity & 1});
  block({"mbarrier #%d, parity %d", b.index, static_cast<int>(parity), pc});
}

}  // namespace longspan::emulator
