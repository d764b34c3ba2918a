// __syncthreads and the named barriers of a block.
#include "cuda/emulator/barrier.h"

#include <algorithm>
#include <cstdio>

#include "cuda/emulator/instructions.h"
#include "cuda/emulator/report.h"
#include "cuda/emulator/settings.h"

namespace longspan::emulator {
namespace {

void complete(Block& block, NamedBarrier& barrier, int id) {
  Machine& m = machine();
  m.report->stats.barriers++;
  for (int w = 0; w < block.warps; ++w) {
    const uint32_t arrived = barrier.lanes[static_cast<size_t>(w)];
    if (arrived != 0 && (~block.warp[static_cast<size_t>(w)].exitedLanes & ~arrived) != 0) {
      finding("partialWarp", "barrier " + std::to_string(id) + ": only " +
                                 std::to_string(__builtin_popcount(arrived)) + " lanes of warp " +
                                 std::to_string(w) + " arrived; a barrier takes whole warps");
    }
  }
  if (id == 0) {
    for (int i = 0; i < 3; ++i) block.reductionResult[i] = block.reduction[i];
    block.reduction[0] = block.reduction[2] = 0;
    block.reduction[1] = 1;
  }
  for (Fiber* f : barrier.waiters) {
    f->known = barrier.gathered.sum();  // holds what the waiter knew before: it arrived too
    if (f != running) wake(*f);
  }
  barrier.waiters.clear();
  barrier.gathered.clear();
  barrier.active = false;
}

void enter(int id, int threads, bool waits, const void* pc) {
  Fiber& me = *running;
  Block& block = *me.block;
  const bool all = threads == 0;
  if (id < 0 || id >= kNamedBarriers) fatalAt("barrier id out of range", pc);
  if (!all && (threads < 0 || threads % 32 != 0 || threads > block.threads)) {
    fatalAt("barrier for " + std::to_string(threads) +
                " threads: not a multiple of 32 within the block",
            pc);
  }
  NamedBarrier& barrier = block.barriers[id];
  if (!barrier.active) {
    barrier.active = true;
    barrier.all = all;
    barrier.expected = threads;
    barrier.arrived = 0;
    barrier.lanes.assign(static_cast<size_t>(block.warps), 0);
  } else if (barrier.all != all || barrier.expected != threads) {
    fatalAt("barrier " + std::to_string(id) + " used with different thread counts", pc);
  }
  barrier.gathered.add(me.known, me.id, me.time);
  me.time++;
  barrier.arrived++;
  barrier.lanes[me.warp] |= 1u << me.lane;
  if (waits) barrier.waiters.push_back(&me);
  const int needed = all ? block.live : threads;
  if (barrier.arrived >= needed) {
    complete(block, barrier, id);
  } else if (waits) {
    emulator::block({"barrier %d (%d threads)", id, needed, pc});
  }
}

// A bug to plant into any kernel: the barrier that the environment names, by the order in which
// the process meets them.
struct SkippedBarrier {
  std::vector<const void*> met;
  const void* untold = nullptr;

  bool is(const void* pc) {
    const uint64_t wanted = environment().skipBarrier;
    if (wanted == 0) return false;
    const auto place = std::find(met.begin(), met.end(), pc);
    const auto number = static_cast<uint64_t>(place - met.begin()) + 1;
    if (place == met.end()) {
      met.push_back(pc);
      if (number == wanted) untold = pc;
    }
    return number == wanted;
  }
};
SkippedBarrier& skipped() {
  static SkippedBarrier instance;
  return instance;
}

}  // namespace

void tellOfSkippedBarrier() {
  const void*& pc = skipped().untold;
  if (pc == nullptr) return;
  std::vector<std::string> place{atLine(pc)};
  resolveLines(place);
  std::fprintf(stderr, "LONGSPAN_EMULATED_SKIP_BARRIER: left out %s\n", place[0].c_str());
  pc = nullptr;
}

void blockBarrierAfterExit(Block& block) {
  NamedBarrier& barrier = block.barriers[0];
  if (barrier.all && block.live > 0 && barrier.arrived >= block.live) complete(block, barrier, 0);
}

void barrierSync(int id, int threads) {
  const void* const pc = __builtin_return_address(0);
  if (threads == 0 && skipped().is(pc)) return;
  enter(id, threads, true, pc);
}

void barrierArrive(int id, int threads) { enter(id, threads, false, __builtin_return_address(0)); }

int barrierReduce(int value, int operation) {
  Block& block = *running->block;
  block.reduction[0] |= value != 0;
  block.reduction[1] &= value != 0;
  block.reduction[2] += value != 0;
  enter(0, 0, true, __builtin_return_address(0));
  return block.reductionResult[operation];
}

}  // namespace longspan::emulator
