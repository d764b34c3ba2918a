// cp.async: the data arrives when the group is waited for, not before. Until then the target holds
// NaNs, and touching it is an error.
#include <cstring>

#include "cuda/emulator/access.h"
#include "cuda/emulator/instructions.h"

namespace longspan::emulator {
namespace {

void land(Fiber& me, const AsyncCopy& copy) {
  Block& block = *me.block;
  if (machine().checks) {
    block.shadow.visit(copy.to, static_cast<size_t>(copy.bytes),
                       [&](SharedCell& cell, SharedRead*) {
                         cell.pendingWrites--;
                         cell.writer = me.id;
                         cell.writeTime = me.time;
                       });
  }
  uint8_t* to = block.shared() + copy.to;
  std::memcpy(to, copy.from, static_cast<size_t>(copy.sourceBytes));
  std::memset(to + copy.sourceBytes, 0, static_cast<size_t>(copy.bytes - copy.sourceBytes));
}

}  // namespace

void copyAsync(void* shared, const void* global, int bytes, int sourceBytes) {
  const void* pc = __builtin_return_address(0);
  Fiber& me = *running;
  const size_t to = sharedOffset(shared, "cp.async", pc);
  const auto count = static_cast<size_t>(bytes);
  if (to % count != 0) fatalAt("cp.async: shared address misaligned", pc);
  if (reinterpret_cast<uintptr_t>(global) % count != 0) {
    fatalAt("cp.async: global address misaligned", pc);
  }
  if (sourceBytes < 0 || sourceBytes > bytes) fatalAt("cp.async: bad source size", pc);
  if (sourceBytes > 0) {
    if (!machine().memory.covers(global)) fatalAt("cp.async: the source is not device memory", pc);
    accessGlobal(me, global, static_cast<size_t>(sourceBytes), false, pc);
  }
  accessShared(me, to, count, true, pc);  // against earlier readers and writers
  if (machine().checks) {
    me.block->shadow.visit(to, count, [](SharedCell& cell, SharedRead*) { cell.pendingWrites++; });
  }
  std::memset(shared, 0xff, count);
  me.async().openCopies.push_back(
      {static_cast<uint32_t>(to), static_cast<const uint8_t*>(global), bytes, sourceBytes});
}

void copyCommit() {
  ThreadAsync& async = running->async();
  async.copyGroups.push_back(std::move(async.openCopies));
  async.openCopies.clear();
}

void copyWait(int pending) {
  ThreadAsync& async = running->async();
  while (async.copyGroups.size() > static_cast<size_t>(pending)) {
    for (const AsyncCopy& copy : async.copyGroups.front()) land(*running, copy);
    async.copyGroups.pop_front();
  }
}

}  // namespace longspan::emulator
