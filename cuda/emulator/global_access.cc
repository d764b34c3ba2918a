// Checks of global memory: bounds to the byte, freed and foreign buffers, uninitialised reads, and
// races within a block and between blocks of one launch.
#include <cstring>

#include "cuda/emulator/access.h"

namespace longspan::emulator {
namespace {

// Who touched a cell: 0 nobody, else bit 63 set, 62 atomic, 61..34 block, 33..24 thread, 23..0
// time.
constexpr uint64_t kValid = uint64_t{1} << 63, kAtomic = uint64_t{1} << 62;

uint64_t recordOf(const Fiber& fiber, bool atomic) {
  return kValid | (atomic ? kAtomic : 0) | uint64_t{fiber.block->number & 0xfffffffu} << 34 |
         uint64_t{fiber.id} << 24 | (fiber.time & 0xffffffu);
}

bool ordered(const Fiber& fiber, uint64_t record) {
  const uint32_t block = record >> 34 & 0xfffffff;
  const uint16_t thread = record >> 24 & 0x3ff;
  const uint32_t time = record & 0xffffff;
  if (block == (fiber.block->number & 0xfffffff)) return fiber.knows(thread, time);
  const ForeignRef& foreign = fiber.known->foreign;
  if (!foreign) return false;
  const auto it = foreign->find(block);
  return it != foreign->end() && (*it->second)[thread] >= time;
}

void conflict(const Fiber& fiber, uint64_t record, const char* kind, const Allocation& a,
              const void* address, const void* pc) {
  if (!machine().reports.firstTime(pc, a.base)) return;
  const uint32_t block = record >> 34 & 0xfffffff;
  const std::string thread = "thread " + std::to_string(record >> 24 & 0x3ff);
  const size_t offset = static_cast<size_t>(static_cast<const uint8_t*>(address) - a.base);
  finding(std::string(kind) + atLine(pc),
          std::string("RACE global ") + kind + " at byte " + std::to_string(offset) +
              " of a buffer of " + std::to_string(a.bytes) + " bytes: " + nameOf(fiber) + " at " +
              atLine(pc) + " versus " + thread +
              (block == fiber.block->number ? " of the same block"
                                            : " of another block (" + std::to_string(block) + ")"));
}

void checkCell(Fiber& fiber, GlobalCell& cell, uint64_t mine, bool write, const Allocation& a,
               const void* address, const void* pc) {
  const bool bothAtomic = (cell.writer & mine & kAtomic) != 0;
  if (cell.writer != 0 && !bothAtomic && !ordered(fiber, cell.writer)) {
    conflict(fiber, cell.writer,
             write ? "write after unsynchronised write" : "read of unsynchronised write", a,
             address, pc);
  }
  if (write) {
    if (cell.reader != 0 && !(cell.reader & mine & kAtomic) && !ordered(fiber, cell.reader)) {
      conflict(fiber, cell.reader, "write after unsynchronised read", a, address, pc);
    }
    cell.writer = mine;
    cell.reader = 0;
  } else {
    cell.reader = mine;
  }
}

void checkCells(Fiber& fiber, Allocation& a, size_t offset, size_t bytes, bool write, bool atomic,
                const void* address, const void* pc) {
  const uint64_t mine = recordOf(fiber, atomic);
  const uint32_t launch = machine().launchNumber;
  const size_t end = offset + bytes;
  for (size_t word = offset / 4; word * 4 < end; ++word) {
    GlobalCell& cell = GlobalMemory::wordAt(a, word, launch);
    const bool whole = offset <= word * 4 && word * 4 + 4 <= end;
    if (whole && cell.writer != kSplit) {
      checkCell(fiber, cell, mine, write, a, address, pc);
      continue;
    }
    GlobalCell* split = GlobalMemory::splitBytes(a, word);
    const size_t first = offset > word * 4 ? offset - word * 4 : 0;
    const size_t last = end < word * 4 + 4 ? end - word * 4 : 4;
    for (size_t i = first; i < last; ++i) checkCell(fiber, split[i], mine, write, a, address, pc);
    if (whole && write) cell = {mine, 0};  // alike again
  }
}

[[noreturn]] void outOfBounds(const Allocation* a, const void* address, size_t bytes, bool write,
                              const void* pc) {
  const std::string what =
      std::string(write ? "write" : "read") + " of " + std::to_string(bytes) + " bytes";
  if (a == nullptr) fatalAt("OUT OF BOUNDS global " + what + " outside every buffer", pc);
  const auto offset = static_cast<const uint8_t*>(address) - a->base;
  fatalAt("OUT OF BOUNDS global " + what + " at byte " + std::to_string(offset) +
              " of a buffer of " + std::to_string(a->bytes) + " bytes",
          pc);
}

}  // namespace

void accessGlobal(Fiber& fiber, const void* address, size_t bytes, bool write, const void* pc,
                  bool atomic) {
  Machine& m = machine();
  m.report->stats.globalAccesses++;
  if (write) m.progress = true;
  Allocation* a = m.memory.find(address);
  if (a == nullptr || !a->contains(address, bytes)) outOfBounds(a, address, bytes, write, pc);
  if (!a->live) {
    fatalAt(std::string("USE AFTER FREE global ") + (write ? "write" : "read") +
                " in a freed buffer of " + std::to_string(a->bytes) + " bytes",
            pc);
  }
  if (a->device != m.request.device) {
    fatalAt("WRONG DEVICE: a kernel on device " + std::to_string(m.request.device) +
                " touches memory of device " + std::to_string(a->device),
            pc);
  }
  if (!m.checks || !a->initialised) return;
  const size_t offset = static_cast<size_t>(static_cast<const uint8_t*>(address) - a->base);
  checkCells(fiber, *a, offset, bytes, write, atomic, address, pc);
  uint8_t* initialised = &a->initialised[offset];
  if (write) {
    if (atomic && std::memchr(initialised, 0, bytes) != nullptr) {
      finding("atomic" + atLine(pc),
              "UNINITIALISED global memory updated by an atomic operation at " + atLine(pc));
    }
    std::memset(initialised, 1, bytes);
  } else if (std::memchr(initialised, 0, bytes) != nullptr) {
    finding("uninitialisedGlobal" + atLine(pc), "UNINITIALISED read of global memory, byte " +
                                                    std::to_string(offset) + " of a buffer of " +
                                                    std::to_string(a->bytes) + " bytes, by " +
                                                    nameOf(fiber) + " at " + atLine(pc));
  }
}

}  // namespace longspan::emulator
