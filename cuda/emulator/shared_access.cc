// Checks of shared memory: bounds, races by happens-before, uninitialised reads, asynchronous
// operations in flight.
#include <cstdio>

#include "cuda/emulator/access.h"

namespace longspan::emulator {
namespace {

std::string place(size_t offset) {
  char text[32];
  std::snprintf(text, sizeof text, "shared+0x%zx", offset);
  return text;
}

bool ordered(const Fiber& fiber, const SharedCell& cell) {
  return cell.writer == kNobody || fiber.knows(cell.writer, cell.writeTime);
}

void checkRead(Fiber& fiber, SharedCell& cell, SharedRead* reads, size_t offset, const void* pc) {
  Machine& m = machine();
  if (cell.pendingWrites != 0) {
    reportRace(fiber, "read of the target of an asynchronous copy in flight", offset, pc,
               cell.writer, cell.writePc);
  } else if (!cell.initialised) {
    if (m.reports.firstTime(pc, nullptr)) {
      finding("uninitialised" + atLine(pc), "UNINITIALISED read of " + place(offset) + " by " +
                                                nameOf(fiber) + " at " + atLine(pc));
    }
  } else if (!ordered(fiber, cell)) {
    reportRace(fiber, "read of unsynchronised write", offset, pc, cell.writer, cell.writePc);
  }
  reads[fiber.warp] = {pc, fiber.time, fiber.id};
  cell.readWarps |= 1u << fiber.warp;
}

void checkWrite(Fiber& fiber, SharedCell& cell, const SharedRead* reads, size_t offset,
                const void* pc, bool generic) {
  if (cell.pendingWrites != 0) {
    reportRace(fiber, "write to the target of an asynchronous copy in flight", offset, pc,
               cell.writer, cell.writePc);
  }
  if (cell.pendingReads != 0) {
    reportRace(fiber, "write under an asynchronous operation that still reads", offset, pc,
               cell.writer, cell.writePc);
  }
  if (!ordered(fiber, cell)) {
    reportRace(fiber, "write after unsynchronised write", offset, pc, cell.writer, cell.writePc);
  }
  for (uint32_t left = cell.readWarps; left != 0; left &= left - 1) {
    const SharedRead& read = reads[__builtin_ctz(left)];
    if (!fiber.knows(read.thread, read.time)) {
      reportRace(fiber, "write after unsynchronised read", offset, pc, read.thread, read.pc);
    }
  }
  cell.readWarps = 0;
  cell.writer = fiber.id;
  cell.writeTime = fiber.time;
  cell.writePc = pc;
  cell.initialised = true;
  cell.generic = generic;
}

}  // namespace

void reportRace(const Fiber& fiber, const char* kind, size_t offset, const void* pc,
                uint16_t component, const void* otherPc) {
  if (!machine().reports.firstTime(pc, otherPc)) return;
  const std::string other = component == kNobody ? nameOf(fiber) : nameOf(*fiber.block, component);
  finding(std::string(kind) + atLine(pc) + atLine(otherPc),
          std::string("RACE ") + kind + " on " + place(offset) + ": " + nameOf(fiber) + " at " +
              atLine(pc) + " versus " + other + " at " + atLine(otherPc));
}

size_t sharedOffset(const void* p, const char* what, const void* pc) {
  const size_t offset =
      static_cast<size_t>(static_cast<const uint8_t*>(p) - running->block->shared());
  if (offset >= kSharedSlot) {
    fatalAt(std::string(what) + ": the address is not in the block's shared memory", pc);
  }
  return offset;
}

void accessShared(Fiber& fiber, size_t offset, size_t bytes, bool write, const void* pc,
                  bool generic) {
  Machine& m = machine();
  Block& block = *fiber.block;
  m.report->stats.sharedAccesses++;
  if (offset + bytes > block.shadow.bytes()) {
    fatalAt(std::string("OUT OF BOUNDS shared ") + (write ? "write" : "read") + " of " +
                std::to_string(bytes) + " bytes at " + place(offset) + " of " +
                std::to_string(block.shadow.bytes()) + " bytes",
            pc);
  }
  if (!m.checks) return;
  if (write) {
    block.shadow.visit(offset, bytes, [&](SharedCell& cell, SharedRead* reads) {
      checkWrite(fiber, cell, reads, offset, pc, generic);
    });
    block.shadow.merge(offset, bytes);
  } else {
    block.shadow.visit(offset, bytes, [&](SharedCell& cell, SharedRead* reads) {
      checkRead(fiber, cell, reads, offset, pc);
    });
  }
}

}  // namespace longspan::emulator
