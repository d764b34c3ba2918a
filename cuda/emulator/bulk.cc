// Bulk copies (TMA). Loads land when nothing else can run, or at random times; stores read shared
// memory at the wait for reads and write global memory at the wait for writes or when the thread
// ends: never earlier than the program may rely on.
#include "cuda/emulator/bulk.h"

#include <algorithm>
#include <cstring>

#include "cpp/core/half.h"
#include "cuda/emulator/access.h"
#include "cuda/emulator/instructions.h"
#include "cuda/emulator/mbarrier.h"

namespace longspan::emulator {
namespace {

constexpr size_t kChunk = 16;  // what a swizzle moves as one

// Calls f(shared offset, global address or null, bytes) for every piece of the box: whole chunks
// where they lie inside the tensor, single elements at its edges.
template <class F>
void forPieces(const Bulk& bulk, F&& f) {
  const TileMap& map = bulk.map;
  const size_t element = map.elementBytes(), rowBytes = map.rowBytes();
  const size_t perChunk = kChunk / element;
  for (size_t row = 0; row * rowBytes < bulk.bytes; ++row) {
    const uint8_t* start = map.rowOf(bulk.at, row);
    for (size_t x = 0; x * element < rowBytes; x += perChunk) {
      const auto linear = static_cast<uint32_t>(bulk.shared + row * rowBytes + x * element);
      const uint32_t to = swizzled(linear, map.swizzleBytes);
      const int64_t column = bulk.at[0] + static_cast<int64_t>(x);
      const auto extent = static_cast<int64_t>(map.extent[0]);
      const auto count = static_cast<int64_t>(perChunk);
      if (start == nullptr || column + count <= 0 || column >= extent) {
        f(to, static_cast<const uint8_t*>(nullptr), kChunk);
      } else if (column >= 0 && column + count <= extent) {
        f(to, start + column * static_cast<int64_t>(element), kChunk);
      } else {
        for (int64_t i = 0; i < count; ++i) {
          const bool inside = column + i >= 0 && column + i < extent;
          f(to + static_cast<uint32_t>(i) * static_cast<uint32_t>(element),
            inside ? start + (column + i) * static_cast<int64_t>(element) : nullptr, element);
        }
      }
    }
  }
}

Bulk fromMap(const CUtensorMap* map, int rank, const int* at, const void* shared, const void* pc) {
  Bulk bulk;
  bulk.pc = pc;
  if (!decode(*map, &bulk.map)) fatalAt("bulk copy: not an encoded tensor map", pc);
  if (bulk.map.rank != rank) fatalAt("bulk copy: rank differs from the tensor map's", pc);
  for (int i = 0; i < rank; ++i) bulk.at[i] = at[i];
  bulk.bytes = bulk.map.boxBytes();
  const size_t offset = sharedOffset(shared, "bulk copy", pc);
  const int swizzle = bulk.map.swizzleBytes;
  const size_t alignment = swizzle == 0 ? 128 : static_cast<size_t>(swizzle) * 8;
  if (offset % alignment != 0) {
    fatalAt("bulk copy: shared address not aligned to " + std::to_string(alignment) + " bytes", pc);
  }
  bulk.shared = static_cast<uint32_t>(offset);
  return bulk;
}

Bulk fromRange(const void* global, const void* shared, uint32_t bytes, DType type, const void* pc) {
  Bulk bulk;
  bulk.pc = pc;
  const size_t offset = sharedOffset(shared, "bulk copy", pc);
  if (offset % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0 || bytes % 16 != 0) {
    fatalAt("bulk copy of a range: addresses and size are multiples of 16 bytes", pc);
  }
  bulk.map.base = static_cast<const uint8_t*>(global);
  bulk.map.type = type;
  bulk.map.extent[0] = bulk.map.box[0] = bytes / static_cast<uint32_t>(sizeOf(type));
  bulk.bytes = bytes;
  bulk.shared = static_cast<uint32_t>(offset);
  return bulk;
}

bool fenced(const Block& block, const SharedCell& cell) {
  if (!cell.generic || cell.writer >= block.threads) return true;
  const Fiber& writer = block.fibers[cell.writer];
  return writer.asyncState && writer.asyncState->proxyFence > cell.writeTime;
}

void issueLoad(Bulk bulk, const void* barrier) {
  Machine& m = machine();
  Fiber& me = *running;
  Block& block = *me.block;
  Mbarrier& b = mbarrierAt(barrier, bulk.pc);
  bulk.barrier = static_cast<uint32_t>(static_cast<const uint8_t*>(barrier) - block.shared());
  if (m.checks) {
    const Fiber& initialiser = block.fibers[b.initialiser];
    if (!initialiser.asyncState || initialiser.asyncState->proxyFence <= b.initTime) {
      finding("mbarrierFence",
              "PROXY: a bulk copy signals an mbarrier whose init was not followed "
              "by fence.mbarrier_init, at " +
                  atLine(bulk.pc));
    }
  }
  forPieces(bulk, [&](uint32_t, const uint8_t* from, size_t bytes) {
    if (from == nullptr) return;
    if (!m.memory.covers(from)) fatalAt("bulk copy: the source is not device memory", bulk.pc);
    accessGlobal(me, from, bytes, false, bulk.pc);
  });
  if (m.checks && bulk.shared + bulk.bytes <= block.shadow.bytes()) {
    block.shadow.visit(bulk.shared, bulk.bytes, [&](SharedCell& cell, SharedRead*) {
      if (!fenced(block, cell)) {
        finding("proxyOverwrite" + atLine(bulk.pc),
                "PROXY: a bulk copy at " + atLine(bulk.pc) + " overwrites ordinary stores at " +
                    atLine(cell.writePc) + " without fence.proxy.async in the writing thread");
      }
    });
  }
  accessShared(me, bulk.shared, bulk.bytes, true, bulk.pc, false);
  if (m.checks) {
    block.shadow.visit(bulk.shared, bulk.bytes,
                       [](SharedCell& cell, SharedRead*) { cell.pendingWrites++; });
  }
  std::memset(block.shared() + bulk.shared, 0xff, bulk.bytes);
  block.loads.push_back(bulk);
  m.bulkInFlight++;
}

void issueStore(Bulk bulk) {
  Machine& m = machine();
  Fiber& me = *running;
  Block& block = *me.block;
  if (bulk.shared + bulk.bytes > block.shadow.bytes()) {
    fatalAt("OUT OF BOUNDS source of a bulk store", bulk.pc);
  }
  if (m.checks) {
    block.shadow.visit(bulk.shared, bulk.bytes, [&](SharedCell& cell, SharedRead*) {
      if (!cell.initialised) {
        finding("uninitialisedStore" + atLine(bulk.pc),
                "UNINITIALISED shared memory read by a bulk store at " + atLine(bulk.pc));
      } else if (cell.writer != kNobody && !me.knows(cell.writer, cell.writeTime)) {
        reportRace(me, "bulk store reads unsynchronised write", bulk.shared, bulk.pc, cell.writer,
                   cell.writePc);
      } else if (!fenced(block, cell)) {
        finding("proxyStore" + atLine(bulk.pc),
                "PROXY: a bulk store at " + atLine(bulk.pc) + " reads ordinary stores at " +
                    atLine(cell.writePc) + " without fence.proxy.async in the writing thread");
      }
      cell.pendingReads++;
    });
  }
  me.async().openStores.push_back(std::move(bulk));
}

// Takes the source out of shared memory; the data waits in the machine until it is written.
void readSource(Fiber& me, Bulk& bulk) {
  Block& block = *me.block;
  bulk.data.resize(bulk.bytes);
  std::memcpy(bulk.data.data(), block.shared() + bulk.shared, bulk.bytes);
  if (!machine().checks) return;
  block.shadow.visit(bulk.shared, bulk.bytes, [&](SharedCell& cell, SharedRead* reads) {
    cell.pendingReads--;
    cell.readWarps |= 1u << me.warp;
    reads[me.warp] = {bulk.pc, me.time, me.id};
  });
}

template <class T>
void addOne(uint8_t* to, const uint8_t* from) {
  T a, b;
  std::memcpy(&a, to, sizeof a);
  std::memcpy(&b, from, sizeof b);
  const T sum = store<T>(load(a) + load(b));
  std::memcpy(to, &sum, sizeof sum);
}

void addPiece(DType type, uint8_t* to, const uint8_t* from, size_t bytes) {
  dispatchAny(type, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (size_t i = 0; i < bytes; i += sizeof(T)) addOne<T>(to + i, from + i);
  });
}

void writeTarget(Fiber& me, const Bulk& bulk) {
  forPieces(bulk, [&](uint32_t from, const uint8_t* to, size_t bytes) {
    if (to == nullptr) return;
    auto* target = const_cast<uint8_t*>(to);
    if (!machine().memory.covers(to))
      fatalAt("bulk copy: the target is not device memory", bulk.pc);
    accessGlobal(me, to, bytes, true, bulk.pc, bulk.add);
    const uint8_t* source = bulk.data.data() + (from - bulk.shared);
    if (bulk.add) {
      addPiece(bulk.map.type, target, source, bytes);
    } else {
      std::memcpy(target, source, bytes);
    }
  });
}

}  // namespace

void landRandomLoad(Machine& m) {
  size_t k = m.draw() % static_cast<size_t>(m.bulkInFlight);
  Block* block = nullptr;
  for (Block* b : m.resident) {
    if (k < b->loads.size()) {
      block = b;
      break;
    }
    k -= b->loads.size();
  }
  const Bulk bulk = block->loads[k];
  block->loads[k] = block->loads.back();
  block->loads.pop_back();
  m.bulkInFlight--;
  m.progress = true;
  forPieces(bulk, [&](uint32_t to, const uint8_t* from, size_t bytes) {
    uint8_t* target = block->shared() + to;
    if (from == nullptr) {
      std::memset(target, 0, bytes);
    } else {
      std::memcpy(target, from, bytes);
    }
  });
  Mbarrier& barrier = block->mbarriers.at(bulk.barrier);
  const int component = block->threads + barrier.index;
  const uint32_t time = ++barrier.copyTime;
  if (m.checks) {
    block->shadow.visit(bulk.shared, bulk.bytes, [&](SharedCell& cell, SharedRead*) {
      cell.pendingWrites--;
      cell.writer = static_cast<uint16_t>(component);
      cell.writeTime = time;
      cell.initialised = true;
      cell.generic = false;
    });
  }
  barrier.gathered.set(static_cast<uint32_t>(component), time, block->components);
  mbarrierDelivered(*block, barrier, bulk.bytes);
}

void checkStoresAtExit(Fiber& fiber) {
  ThreadAsync& async = *fiber.asyncState;
  if (!async.openStores.empty() || !async.storeGroups.empty()) {
    finding("storesAtExit", "a thread ends with bulk stores it did not wait for: " + nameOf(fiber));
  }
  for (const auto& group : async.writingGroups) {
    for (const Bulk& bulk : group) writeTarget(fiber, bulk);
  }
  async.writingGroups.clear();
}

void bulkLoad(void* shared, const CUtensorMap* map, const void* barrier, int rank, const int* at) {
  issueLoad(fromMap(map, rank, at, shared, __builtin_return_address(0)), barrier);
}

void bulkLoadRange(void* shared, const void* global, uint32_t bytes, const void* barrier) {
  issueLoad(fromRange(global, shared, bytes, DType::u8, __builtin_return_address(0)), barrier);
}

void bulkStore(const void* shared, const CUtensorMap* map, int rank, const int* at, bool add) {
  Bulk bulk = fromMap(map, rank, at, shared, __builtin_return_address(0));
  bulk.add = add;
  issueStore(std::move(bulk));
}

void bulkStoreRange(void* global, const void* shared, uint32_t bytes, bool addFloats) {
  Bulk bulk = fromRange(global, shared, bytes, addFloats ? DType::f32 : DType::u8,
                        __builtin_return_address(0));
  bulk.add = addFloats;
  issueStore(std::move(bulk));
}

void bulkCommit() {
  ThreadAsync& async = running->async();
  async.storeGroups.push_back(std::move(async.openStores));
  async.openStores.clear();
}

void bulkWait(int pending, bool readsOnly) {
  ThreadAsync& async = running->async();
  const auto allowed = static_cast<size_t>(pending);
  while (async.storeGroups.size() > allowed) {
    for (Bulk& bulk : async.storeGroups.front()) readSource(*running, bulk);
    async.writingGroups.push_back(std::move(async.storeGroups.front()));
    async.storeGroups.pop_front();
  }
  if (readsOnly) return;
  while (async.writingGroups.size() + async.storeGroups.size() > allowed) {
    for (const Bulk& bulk : async.writingGroups.front()) writeTarget(*running, bulk);
    async.writingGroups.pop_front();
  }
}

void fenceProxyAsync() {
  Fiber& me = *running;
  me.async().proxyFence = ++me.time;
}

void fenceMbarrierInit() { fenceProxyAsync(); }

}  // namespace longspan::emulator
