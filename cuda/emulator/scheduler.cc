// Runs a launch: threads of the resident blocks in an order drawn from the seed, one at a time,
// each until it waits or ends.
//
// A thread that never waits costs no switch: it starts as a plain call on the stack of the one that
// ended before it. Only a thread that waits keeps its stack.
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "cuda/emulator/barrier.h"
#include "cuda/emulator/bulk.h"
#include "cuda/emulator/machine.h"
#include "cuda/emulator/settings.h"
#include "cuda/emulator/wgmma.h"

namespace longspan::emulator {

Fiber* running = nullptr;

namespace {

pthread_t kernelThread;

[[noreturn]] void leave() {
  Machine& m = machine();
  running = nullptr;
  resumeContext(m.host);
}

std::string describe(const Waiting& w) {
  char text[160];
  std::snprintf(text, sizeof text, w.what, w.a, w.b);
  return text;
}

void reportDeadlock(Machine& m) {
  std::map<std::string, std::pair<int, std::string>> groups;
  for (const Block* block : m.resident) {
    for (const Fiber& f : block->fibers) {
      if (f.exited) continue;
      auto& [count, first] = groups[describe(f.waiting) + " at " + atLine(f.waiting.pc)];
      if (count++ == 0) first = nameOf(f);
    }
  }
  std::string text = "DEADLOCK: nothing can run.";
  for (const auto& [where, group] : groups) {
    text += "\n    " + std::to_string(group.first) + " threads, first " + group.second +
            ", wait in " + where;
  }
  finding("deadlock", text);
}

void resetBlock(Machine& m, Block& b, uint32_t number) {
  const dim3& grid = m.request.grid;
  const dim3& size = m.request.block;
  b.number = number;
  b.index = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
  b.threads = b.live = static_cast<int>(size.x * size.y * size.z);
  b.warps = (b.threads + 31) / 32;
  b.components = static_cast<size_t>(b.threads + kMaxMbarriers + b.warps);
  if (b.fibers.size() != static_cast<size_t>(b.threads)) {
    b.fibers = std::vector<Fiber>(static_cast<size_t>(b.threads));
    b.warp.clear();
    b.warp.resize(static_cast<size_t>(b.warps));
  }
  for (NamedBarrier& barrier : b.barriers) {
    if (barrier.active) barrier = {};
  }
  std::fill(std::begin(b.reduction), std::end(b.reduction), 0);
  b.reduction[1] = 1;
  b.mbarriers.clear();
  b.loads.clear();
  b.engineTime.assign(static_cast<size_t>(b.warps), 0);
  b.joiner.clear();
  const size_t sharedBytes = m.request.sharedBytes;
  if (sharedBytes != 0) std::memset(b.shared(), 0xff, sharedBytes);
  b.shadow.reset(sharedBytes, b.warps);

  const KnowledgeRef nothing = KnowledgeRef::zero(b.components);
  uint3 thread{0, 0, 0};
  for (int i = 0; i < b.threads; ++i) {
    Fiber& f = b.fibers[static_cast<size_t>(i)];
    f.block = &b;
    f.thread = thread;
    f.id = static_cast<uint16_t>(i);
    f.warp = static_cast<uint8_t>(i / 32);
    f.lane = static_cast<uint8_t>(i % 32);
    f.stack = nullptr;
    f.exited = false;
    f.time = 1;
    f.known = nothing;
    f.asyncState.reset();
    f.orderState.reset();
    if (++thread.x == size.x) {
      thread.x = 0;
      if (++thread.y == size.y) thread = {0, 0, thread.z + 1};
    }
  }
  for (int w = 0; w < b.warps; ++w) {
    Warp& warp = b.warp[static_cast<size_t>(w)];
    warp.rendezvous.clear();
    warp.live = std::min(32, b.threads - w * 32);
    warp.exitedLanes = warp.live == 32 ? 0 : ~0u << warp.live;
    resetWgmma(warp);
  }
}

bool admitBlock(Machine& m) {
  if (m.nextBlock == m.order.size()) return false;
  if (m.idle.empty()) {
    if (m.pool.size() == kMaxResident) return false;
    auto block = std::make_unique<Block>();
    block->slot = static_cast<int>(m.pool.size());
    m.idle.push_back(block.get());
    m.pool.push_back(std::move(block));
  }
  Block* block = m.idle.back();
  m.idle.pop_back();
  resetBlock(m, *block, m.order[m.nextBlock++]);
  m.resident.push_back(block);
  m.live += block->threads;
  m.progress = true;
  // Taken from the back: without a seed threads run in order.
  for (int i = block->threads; i-- > 0;) m.ready.push_back(&block->fibers[static_cast<size_t>(i)]);
  return true;
}

void finishBlock(Machine& m, Block& block) {
  if (!block.loads.empty()) {
    finding("loadsAtExit", "block " + std::to_string(block.number) +
                               " ended with bulk copies in flight, issued at " +
                               atLine(block.loads.front().pc));
    m.bulkInFlight -= static_cast<int>(block.loads.size());
  }
  m.resident.erase(std::find(m.resident.begin(), m.resident.end(), &block));
  m.idle.push_back(&block);
  admitBlock(m);
}

// The next thread to run, or null when the launch is over.
Fiber* pick(Machine& m) {
  for (;;) {
    const bool landNow = !m.lateAsync && m.bulkInFlight > 0 && m.draw() % 64 == 0;
    if (landNow || (m.ready.empty() && m.bulkInFlight > 0)) {
      landRandomLoad(m);
      continue;
    }
    if (!m.ready.empty()) {
      size_t k = m.ready.size() - 1;
      if (environment().settings.seed != 0) k = m.draw() % m.ready.size();
      Fiber* fiber = m.ready[k];
      m.ready[k] = m.ready.back();
      m.ready.pop_back();
      m.report->stats.switches++;
      return fiber;
    }
    if (m.live == 0 && m.nextBlock == m.order.size()) return nullptr;
    if (!m.yielded.empty() && m.progress) {
      m.progress = false;
      m.ready.swap(m.yielded);
      continue;
    }
    // Threads may wait for a block that is not resident yet: a GPU has room for many.
    if (admitBlock(m)) continue;
    reportDeadlock(m);
    m.aborted = true;
    return nullptr;
  }
}

void threadEnds(Machine& m, Fiber& fiber) {
  Block& block = *fiber.block;
  Warp& warp = block.warp[fiber.warp];
  fiber.exited = true;
  m.live--;
  block.live--;
  warp.live--;
  warp.exitedLanes |= 1u << fiber.lane;
  for (const Rendezvous& r : warp.rendezvous) {
    if (r.mask >> fiber.lane & 1) {
      fatal(
          "DIVERGENCE: a lane exits while lanes of its warp wait for it in a warp-wide operation");
    }
  }
  if (warp.wgmma) checkWgmmaAtExit(fiber);
  if (fiber.asyncState) checkStoresAtExit(fiber);
  if (block.barriers[0].active) blockBarrierAfterExit(block);
  if (block.live == 0) finishBlock(m, block);
}

void startThreads() {
  Machine& m = machine();
  for (;;) {
    Fiber* fiber = running;
    m.request.run(m.request.kernel, m.request.arguments);
    // Taken first: with its last thread a block ends, and its fibers serve the next block.
    char* stack = fiber->stack;
    fiber->stack = nullptr;
    threadEnds(m, *fiber);
    Fiber* next = pick(m);
    if (next != nullptr && next->stack == nullptr) {
      next->stack = stack;
      next->context = contextOn(stack);
      running = next;
      continue;
    }
    // This stack is free from here on: nobody else can take it before the switch.
    m.stacks.give(stack);
    if (next == nullptr) leave();
    running = next;
    resumeContext(next->context);
  }
}

void prepare(Fiber& fiber) {
  if (fiber.stack != nullptr) return;
  fiber.stack = machine().stacks.take();
  fiber.context = makeContext(fiber.stack, startThreads);
}

void orderBlocks(Machine& m) {
  const dim3& grid = m.request.grid;
  m.order.resize(size_t{grid.x} * grid.y * grid.z);
  for (size_t i = 0; i < m.order.size(); ++i) m.order[i] = static_cast<uint32_t>(i);
  if (environment().settings.seed == 0) return;
  for (size_t i = m.order.size(); i > 1; --i) std::swap(m.order[i - 1], m.order[m.draw() % i]);
}

}  // namespace

uint8_t* Block::shared() const {
  return machine().window + kSharedSlot * static_cast<size_t>(slot);
}

Machine& machine() {
  static Machine& instance = *new Machine;  // never destroyed: threads may outlive static objects
  return instance;
}

bool Machine::onKernelThread() const { return pthread_equal(pthread_self(), kernelThread) != 0; }

void block(const Waiting& why) {
  Machine& m = machine();
  Fiber* me = running;
  me->waiting = why;
  Fiber* next = pick(m);
  if (next == me) return;
  if (next == nullptr) leave();
  prepare(*next);
  running = next;
  switchContext(me->context, next->context);
}

void wake(Fiber& fiber) {
  machine().progress = true;
  machine().ready.push_back(&fiber);
}

void yield() {
  Machine& m = machine();
  m.yielded.push_back(running);
  block({"a loop that polls", 0, 0, __builtin_return_address(0)});
}

void finding(const std::string& key, const std::string& text) {
  Machine& m = machine();
  std::string where;
  if (running != nullptr) where = " [block " + std::to_string(running->block->number) + "]";
  m.reports.add(key, text + where);
}

void fatal(const std::string& what) {
  finding(what, what + (running != nullptr ? ", " + nameOf(*running) : ""));
  machine().aborted = true;
  leave();
}

void fatalAt(const std::string& what, const void* pc) { fatal(what + " at " + atLine(pc)); }

std::string nameOf(const Fiber& f) {
  return "thread " + std::to_string(f.id) + " (warp " + std::to_string(f.warp) + " lane " +
         std::to_string(f.lane) + ")";
}

std::string nameOf(const Block& block, uint16_t component) {
  if (component < block.threads) return nameOf(block.fibers[component]);
  const int rest = component - block.threads;
  if (rest < kMaxMbarriers) return "bulk copy on mbarrier #" + std::to_string(rest);
  return "wgmma of warp " + std::to_string(rest - kMaxMbarriers);
}

void runLaunch(Machine& m, const LaunchRequest& request, LaunchReport& report) {
  const auto start = std::chrono::steady_clock::now();
  const Settings& settings = environment().settings;
  if (m.window == nullptr) {
    // Two slots more: one is lost to alignment, one lies before the first to catch negative
    // indices.
    void* p = mmap(nullptr, kSharedSlot * (kMaxResident + 2), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) std::abort();
    m.window = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(p) + 2 * kSharedSlot - 1) &
                                          ~(kSharedSlot - 1));
  }
  report = {};
  m.report = &report;
  m.reports.clear();
  m.request = request;
  m.checks = settings.checks;
  m.lateAsync = settings.lateAsync;
  m.aborted = false;
  m.random = settings.seed * 0x9e3779b97f4a7c15u + 12345;
  m.launchNumber++;
  m.nextBlock = 0;
  m.live = m.bulkInFlight = 0;
  m.ready.clear();
  m.yielded.clear();
  m.released.clear();
  m.resident.clear();
  m.idle.clear();
  for (auto& block : m.pool) m.idle.push_back(block.get());
  kernelThread = pthread_self();
  orderBlocks(m);
  for (int i = 0; i < std::max(1, settings.residentBlocks) && admitBlock(m); ++i) {
  }
  if (Fiber* first = pick(m)) {
    prepare(*first);
    running = first;
    switchContext(m.host, first->context);
  }
  running = nullptr;
  if (m.aborted) m.stacks.takeBackAll();
  report.errors = m.reports.take();
  report.stats.milliseconds =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  m.report = nullptr;
}

}  // namespace longspan::emulator
