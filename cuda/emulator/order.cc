// Order between blocks. Atomics are relaxed: what a thread wrote before a fence becomes known to a
// thread that reads a later atomic of it and then passes a fence itself. The acquire and release
// forms of cuda/ptx/order.cuh are fence and atomic in one.
#include "cuda/emulator/access.h"
#include "cuda/emulator/instructions.h"

namespace longspan::emulator {
namespace {

// Everything the thread knows, its own block included, as other blocks will look it up.
ForeignRef snapshot(Fiber& me) {
  auto own = std::make_shared<std::vector<uint32_t>>(me.known->at);
  (*own)[me.id] = me.time;
  me.time++;
  auto all = me.known->foreign ? std::make_shared<Foreign>(*me.known->foreign)
                               : std::make_shared<Foreign>();
  (*all)[me.block->number & 0xfffffff] = std::move(own);
  return all;
}

void learn(Fiber& me, const ForeignRef& news) {
  if (!news) return;
  KnowledgeRef sum = KnowledgeRef::copyOf(*me.known);
  sum->foreign = joinForeign(sum->foreign, news);
  // What threads of the own block have released counts within the block.
  const auto own = news->find(me.block->number & 0xfffffff);
  if (own != news->end()) {
    for (size_t i = 0; i < own->second->size(); ++i) {
      if ((*own->second)[i] > sum->at[i]) sum->at[i] = (*own->second)[i];
    }
  }
  me.known = sum;
}

void publish(const void* address, const ForeignRef& news) {
  if (!news) return;
  ForeignRef& at = machine().released[address];
  at = joinForeign(at, news);
}

void acquireFrom(Fiber& me, const void* address) {
  const auto& released = machine().released;
  if (released.empty()) return;
  const auto it = released.find(address);
  if (it != released.end()) me.order().acquired = joinForeign(me.order().acquired, it->second);
}

void accessFlag(const void* address, size_t bytes, bool write, const void* pc) {
  if (machine().memory.covers(address)) {
    accessGlobal(*running, address, bytes, write, pc, true);
    return;
  }
  const size_t offset = sharedOffset(address, "atomic operation", pc);
  if (offset + bytes > running->block->shadow.bytes()) {
    fatalAt("OUT OF BOUNDS shared atomic operation", pc);
  }
  if (!machine().checks) return;
  running->block->shadow.visit(offset, bytes, [&](SharedCell& cell, SharedRead*) {
    if (!cell.initialised) {
      finding("atomic" + atLine(pc),
              "UNINITIALISED shared memory updated by an atomic operation at " + atLine(pc));
      cell.initialised = true;
    }
  });
}

}  // namespace

void fenceGlobal() {
  Fiber& me = *running;
  ThreadOrder& order = me.order();
  learn(me, order.acquired);
  order.acquired.reset();
  order.fenced = snapshot(me);
}

void noteAtomic(const void* address, size_t bytes, const void* pc) {
  accessFlag(address, bytes, true, pc);
  Fiber& me = *running;
  acquireFrom(me, address);
  if (me.orderState) publish(address, me.orderState->fenced);
}

uint32_t loadAcquire(const uint32_t* flag) {
  accessFlag(flag, sizeof *flag, false, __builtin_return_address(0));
  acquireFrom(*running, flag);
  if (running->orderState) {
    learn(*running, running->orderState->acquired);
    running->orderState->acquired.reset();
  }
  return *flag;
}

void storeRelease(uint32_t* flag, uint32_t value) {
  accessFlag(flag, sizeof *flag, true, __builtin_return_address(0));
  publish(flag, snapshot(*running));
  *flag = value;
}

uint32_t addAcquireRelease(uint32_t* flag, uint32_t value) {
  accessFlag(flag, sizeof *flag, true, __builtin_return_address(0));
  Fiber& me = *running;
  acquireFrom(me, flag);
  if (me.orderState) {
    learn(me, me.orderState->acquired);
    me.orderState->acquired.reset();
  }
  publish(flag, snapshot(me));
  const uint32_t old = *flag;
  *flag = old + value;
  return old;
}

}  // namespace longspan::emulator
