// The emulated multiprocessor: threads as fibers, their warps and blocks, and the launch they
// belong to. One machine per process runs one launch at a time; its lock is taken by every call of
// the runtime.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/emulator/clock.h"
#include "cuda/emulator/control.h"
#include "cuda/emulator/fiber_stack.h"
#include "cuda/emulator/global_memory.h"
#include "cuda/emulator/report.h"
#include "cuda/emulator/shared_shadow.h"
#include "cuda/emulator/tensor_map.h"
#include "cuda/emulator/vector_types.h"

namespace longspan::emulator {

inline constexpr size_t kSharedLimit = 227 * 1024;
inline constexpr size_t kSharedSlot = 256 * 1024;  // distance between the windows of two blocks
inline constexpr int kMaxResident = 256;
inline constexpr int kMaxMbarriers = 64;
inline constexpr int kNamedBarriers = 16;

// ---- Asynchronous operations in flight ----------------------------------------------------------

struct AsyncCopy {
  uint32_t to;
  const uint8_t* from;
  int bytes, sourceBytes;
};

// A tile between global and shared memory.
struct Bulk {
  TileMap map;
  int at[5] = {};
  uint32_t shared = 0;
  size_t bytes = 0;
  uint32_t barrier = 0;       // loads: offset of the mbarrier
  bool add = false;           // stores: reduction
  std::vector<uint8_t> data;  // stores: read, not yet written
  const void* pc = nullptr;
};

// Asynchronous state of one thread; most threads never have any.
struct ThreadAsync {
  std::vector<AsyncCopy> openCopies;
  std::deque<std::vector<AsyncCopy>> copyGroups;
  std::vector<Bulk> openStores;
  std::deque<std::vector<Bulk>> storeGroups;    // not yet read
  std::deque<std::vector<Bulk>> writingGroups;  // read, writes to global memory outstanding
  uint32_t proxyFence = 0;                      // own time of the last proxy fence
};

// Release and acquire of one thread across blocks.
struct ThreadOrder {
  ForeignRef fenced;    // what an atomic after the last fence publishes
  ForeignRef acquired;  // what atomics have read, and the next fence makes known
};

// ---- Threads, warps, blocks
// -----------------------------------------------------------------------

struct Block;

struct Waiting {
  const char* what = "";
  int a = 0, b = 0;
  const void* pc = nullptr;
};

struct Fiber {
  Context context;
  char* stack = nullptr;
  Block* block = nullptr;
  uint3 thread{};
  uint16_t id = 0;
  uint8_t warp = 0, lane = 0;
  bool exited = false;
  uint32_t time = 1;
  KnowledgeRef known;
  Waiting waiting;
  std::unique_ptr<ThreadAsync> asyncState;
  std::unique_ptr<ThreadOrder> orderState;

  ThreadAsync& async() {
    if (!asyncState) asyncState = std::make_unique<ThreadAsync>();
    return *asyncState;
  }
  ThreadOrder& order() {
    if (!orderState) orderState = std::make_unique<ThreadOrder>();
    return *orderState;
  }
  // Whether what `component` did at `time` is ordered before what this thread does now.
  bool knows(uint16_t component, uint32_t at) const {
    return component == id || known->at[component] >= at;
  }
};

enum class Collective : uint8_t {
  syncWarp,
  shuffle,
  vote,
  elect,
  loadMatrix,
  storeMatrix,
  mma,
  wgmma,
  wgmmaControl,
  setRegisters,
};

// Lanes on their way into one warp-wide operation.
struct Rendezvous {
  Collective kind;
  uint32_t mask, arrived;
  void* argument[32];
};

struct WgmmaAccumulator;
struct WgmmaOperation;
struct WarpWgmma;  // wgmma.cc

struct Warp {
  Warp();
  ~Warp();
  Warp(Warp&&) noexcept;
  std::vector<Rendezvous> rendezvous;
  int live = 0;
  uint32_t exitedLanes = 0;
  std::unique_ptr<WarpWgmma> wgmma;
};

struct NamedBarrier {
  bool active = false, all = false;
  int expected = 0, arrived = 0;
  Gathering gathered;
  std::vector<Fiber*> waiters;
  std::vector<uint32_t> lanes;  // arrived, per warp
};

struct Mbarrier {
  int index = 0;  // component of its bulk copies: threads + index
  uint32_t count = 0, phase = 0;
  int64_t pendingArrivals = 0, pendingBytes = 0;
  Gathering gathered;
  KnowledgeRef published;
  std::vector<std::pair<Fiber*, uint32_t>> waiters;
  uint16_t initialiser = 0;
  uint32_t initTime = 0;
  uint32_t copyTime = 0;  // clock of its bulk copies
};

struct Block {
  int slot = 0;  // of the shared window
  uint32_t number = 0;
  uint3 index{};
  int threads = 0, warps = 0, live = 0;
  size_t components = 0;
  std::vector<Fiber> fibers;
  std::vector<Warp> warp;
  NamedBarrier barriers[kNamedBarriers];
  int reduction[3] = {0, 1, 0};  // of __syncthreads_or, _and, _count
  int reductionResult[3] = {};
  std::map<uint32_t, Mbarrier> mbarriers;
  std::vector<Bulk> loads;           // bulk loads in flight
  std::vector<uint32_t> engineTime;  // clock of each warp's tensor core
  SharedShadow shadow;
  Joiner joiner;

  uint8_t* shared() const;
  int engineComponent(int w) const { return threads + kMaxMbarriers + w; }
};

// ---- The machine
// ------------------------------------------------------------------------------------

struct LaunchRequest {
  void (*run)(const void*, void* const*);
  const void* kernel;
  void* const* arguments;
  dim3 grid, block;
  size_t sharedBytes = 0;
  int device = 0;
};

struct Machine {
  std::recursive_mutex lock;
  GlobalMemory memory;
  uint8_t* window = nullptr;  // shared memory of all resident blocks
  LaunchReport* report = nullptr;
  Reports reports;
  uint32_t launchNumber = 0;

  // The launch in progress.
  LaunchRequest request;
  bool checks = true, lateAsync = true, aborted = false;
  uint64_t random = 1;
  Context host;
  StackPool stacks;
  std::vector<std::unique_ptr<Block>> pool;
  std::vector<Block*> resident, idle;
  std::vector<Fiber*> ready, yielded;
  std::vector<uint32_t> order;  // of blocks
  size_t nextBlock = 0;
  int live = 0;  // threads of resident blocks
  int bulkInFlight = 0;
  bool progress = false;  // something a waiting thread may have waited for has happened
  std::map<const void*, ForeignRef> released;  // by atomics, per address

  uint64_t draw() {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random;
  }
  // Whether the caller is inside the launch in progress, not some other thread of the process.
  bool onKernelThread() const;
  // With the slot before the first: an index below 0 is found there.
  bool inWindow(const void* p) const {
    return static_cast<size_t>(static_cast<const uint8_t*>(p) - (window - kSharedSlot)) <
           kSharedSlot * (kMaxResident + 1);
  }
};

Machine& machine();
// The thread that runs; null while no kernel does. Hooks read it without the lock, see access.cc.
extern Fiber* running;

// Runs one launch; the lock is held. The outcome is in `report`.
void runLaunch(Machine& m, const LaunchRequest& request, LaunchReport& report);

// ---- For the rooms of the emulator, on a fiber
// ------------------------------------------------------

// Suspends the running thread until wake().
void block(const Waiting& why);
void wake(Fiber& fiber);
// Ends the launch with this finding.
[[noreturn]] void fatal(const std::string& what);
[[noreturn]] void fatalAt(const std::string& what, const void* pc);
// A finding after which the launch goes on.
void finding(const std::string& key, const std::string& text);
std::string nameOf(const Fiber& fiber);
std::string nameOf(const Block& block, uint16_t component);

}  // namespace longspan::emulator
