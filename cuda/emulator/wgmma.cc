// wgmma: operands are read, and results appear, when the group is waited for. Meanwhile the
// accumulator holds signalling NaNs: arithmetic changes their bits, so a touched one is recognised.
#include "cuda/emulator/wgmma.h"

#include <cstring>
#include <deque>
#include <map>

#include "cuda/emulator/access.h"
#include "cuda/emulator/collective.h"
#include "cuda/emulator/halves.h"
#include "cuda/emulator/instructions.h"

namespace longspan::emulator {

// One accumulator array of a warp.
struct WgmmaAccumulator {
  float* d[32];  // where it lives in each lane
  float value[32][128];
  int count = 0, pending = 0;
};

struct WgmmaOperation {
  int n;
  bool aInRegisters, accumulate, transposedA, transposedB, isBf16;
  uint64_t descriptorA, descriptorB;
  uint32_t a[32][4];
  WgmmaAccumulator* accumulator;
};

struct WarpWgmma {
  std::vector<WgmmaOperation> open;
  std::deque<std::vector<WgmmaOperation>> groups;
  std::map<const float*, std::unique_ptr<WgmmaAccumulator>> accumulators;  // by lane 0's array
  std::vector<uint64_t> issued;  // to compare the four warps of a warpgroup
  bool fenced = false;
};

namespace {

constexpr uint32_t kPoison = 0x7fa0dead;

WarpWgmma& stateOf(Warp& warp) {
  if (!warp.wgmma) warp.wgmma = std::make_unique<WarpWgmma>();
  return *warp.wgmma;
}

// Shared address of element (x, k) of an operand; x is the row of A or the column of B.
uint32_t elementAddress(uint64_t descriptor, bool otherMajor, uint32_t x, uint32_t k) {
  const auto field = [&](int bit) {
    return static_cast<uint32_t>(descriptor >> bit & 0x3fff) << 4;
  };
  const uint32_t start = field(0), leading = field(16), stride = field(32);
  const auto mode = static_cast<uint32_t>(descriptor >> 62);
  if (mode == 0) {
    return otherMajor ? start + x / 8 * stride + x % 8 * 2 + k / 8 * leading + k % 8 * 16
                      : start + x / 8 * stride + x % 8 * 16 + k / 8 * leading + k % 8 * 2;
  }
  const uint32_t span = mode == 1 ? 128 : mode == 2 ? 64 : 32;
  const uint32_t panel = span / 2;  // elements
  const uint32_t linear =
      otherMajor ? start + x / panel * leading + x % panel * 2 + k / 8 * stride + k % 8 * span
                 : start + x / 8 * stride + x % 8 * span + k * 2;
  return swizzled(linear, static_cast<int>(span));
}

// Calls f(address, x, k) for every run of 8 contiguous elements of rows firstX.. of an operand.
template <class F>
void forRuns(uint64_t descriptor, bool otherMajor, uint32_t firstX, uint32_t count, F&& f) {
  if (otherMajor) {
    for (uint32_t k = 0; k < 16; ++k) {
      for (uint32_t x = firstX; x < firstX + count; x += 8) {
        f(elementAddress(descriptor, true, x, k), x, k);
      }
    }
  } else {
    for (uint32_t x = firstX; x < firstX + count; ++x) {
      for (uint32_t k = 0; k < 16; k += 8) f(elementAddress(descriptor, false, x, k), x, k);
    }
  }
}

template <class F>
void forOperands(const WgmmaOperation& o, int warp, F&& f) {
  const auto rows = static_cast<uint32_t>(warp % 4 * 16);
  if (!o.aInRegisters) forRuns(o.descriptorA, o.transposedA, rows, 16, f);
  forRuns(o.descriptorB, o.transposedB, 0, static_cast<uint32_t>(o.n), f);
}

void checkOperand(Fiber& me, uint32_t address, const void* pc) {
  Block& block = *me.block;
  block.shadow.visit(address, 16, [&](SharedCell& cell, SharedRead*) {
    cell.pendingReads++;
    if (cell.pendingWrites != 0) {
      reportRace(me, "wgmma reads the target of an asynchronous copy in flight", address, pc,
                 cell.writer, cell.writePc);
    } else if (!cell.initialised) {
      finding("uninitialisedWgmma" + atLine(pc),
              "UNINITIALISED shared memory read by wgmma at " + atLine(pc));
    } else if (cell.writer != kNobody && !me.knows(cell.writer, cell.writeTime)) {
      reportRace(me, "wgmma reads unsynchronised write", address, pc, cell.writer, cell.writePc);
    } else if (cell.generic && cell.writer < block.threads) {
      const auto& async = block.fibers[cell.writer].asyncState;
      if (!async || async->proxyFence <= cell.writeTime) {
        finding("proxyWgmma" + atLine(pc), "PROXY: wgmma at " + atLine(pc) +
                                               " reads ordinary stores at " + atLine(cell.writePc) +
                                               " without fence.proxy.async in the writing thread");
      }
    }
  });
}

// All four warps issue the same sequence; the one that comes second notices a difference.
void compareWithWarpgroup(const Fiber& me, WarpWgmma& mine, uint64_t signature, const void* pc) {
  Block& block = *me.block;
  mine.issued.push_back(signature);
  const size_t step = mine.issued.size() - 1;
  const int first = me.warp & ~3;
  if (first + 4 > block.warps) fatalAt("wgmma: the warpgroup is incomplete", pc);
  for (int w = first; w < first + 4; ++w) {
    const auto& other = block.warp[static_cast<size_t>(w)].wgmma;
    if (other && other->issued.size() > step && other->issued[step] != signature) {
      fatalAt("DIVERGENCE: warps of a warpgroup issue different wgmma instructions", pc);
    }
  }
}

struct Argument {
  float* d;
  const uint32_t* a;
  int n;
  uint64_t descriptorA, descriptorB;
  bool accumulate;
};

WgmmaAccumulator& takeAccumulator(WarpWgmma& state, const Rendezvous& all, int n, const void* pc) {
  auto& slot = state.accumulators[argumentOf<Argument>(all, 0).d];
  if (!slot) {
    slot = std::make_unique<WgmmaAccumulator>();
    slot->count = n / 2;
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* d = argumentOf<Argument>(all, lane).d;
    if (slot->pending > 0) {
      if (slot->d[lane] != d) fatalAt("wgmma: the accumulator has moved while in flight", pc);
      continue;
    }
    slot->d[lane] = d;
    std::memcpy(slot->value[lane], d, sizeof(float) * static_cast<size_t>(slot->count));
    for (int i = 0; i < slot->count; ++i) std::memcpy(&d[i], &kPoison, sizeof kPoison);
  }
  slot->pending++;
  return *slot;
}

void returnAccumulator(WgmmaAccumulator& accumulator, const void* pc) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < accumulator.count; ++i) {
      uint32_t bits;
      std::memcpy(&bits, &accumulator.d[lane][i], sizeof bits);
      if (bits == kPoison) continue;
      finding("touched" + atLine(pc),
              "wgmma accumulator registers modified while in flight, found at the wait at " +
                  atLine(pc));
      break;
    }
    std::memcpy(accumulator.d[lane], accumulator.value[lane],
                sizeof(float) * static_cast<size_t>(accumulator.count));
  }
}

using Operand = float[16][256];  // [k][x]

void readOperand(const Block& block, uint64_t descriptor, bool otherMajor, uint32_t firstX,
                 uint32_t count, const float* value, Operand& to) {
  forRuns(descriptor, otherMajor, firstX, count, [&](uint32_t address, uint32_t x, uint32_t k) {
    uint16_t run[8];
    std::memcpy(run, block.shared() + address, sizeof run);
    for (uint32_t i = 0; i < 8; ++i) {
      (otherMajor ? to[k][x - firstX + i] : to[k + i][x - firstX]) = value[run[i]];
    }
  });
}

void readRegisters(const WgmmaOperation& o, const float* value, Operand& to) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + (i & 1) * 8, k = lane % 4 * 2 + (i >> 1) * 8;
      to[k][row] = value[o.a[lane][i] & 0xffff];
      to[k + 1][row] = value[o.a[lane][i] >> 16];
    }
  }
}

void execute(Block& block, const WgmmaOperation& o, int warp, const void* pc) {
  static Operand a, b;  // one launch at a time
  const float* value = halfValues(o.isBf16);
  if (o.aInRegisters) {
    readRegisters(o, value, a);
  } else {
    readOperand(block, o.descriptorA, o.transposedA, static_cast<uint32_t>(warp % 4 * 16), 16,
                value, a);
  }
  readOperand(block, o.descriptorB, o.transposedB, 0, static_cast<uint32_t>(o.n), value, b);
  WgmmaAccumulator& accumulator = *o.accumulator;
  for (int row = 0; row < 16; ++row) {
    const auto at = [&](int column) -> float& {
      return accumulator
          .value[row % 8 * 4 + column % 8 / 2][column / 8 * 4 + row / 8 * 2 + column % 2];
    };
    float sum[256];
    for (int n = 0; n < o.n; ++n) sum[n] = o.accumulate ? at(n) : 0.f;
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < o.n; ++n) sum[n] += a[k][row] * b[k][n];
    }
    for (int n = 0; n < o.n; ++n) at(n) = sum[n];
  }
  if (machine().checks) {
    const uint32_t time = ++block.engineTime[static_cast<size_t>(warp)];
    const auto component = static_cast<uint16_t>(block.engineComponent(warp));
    forOperands(o, warp, [&](uint32_t address, uint32_t, uint32_t) {
      block.shadow.visit(address, 16, [&](SharedCell& cell, SharedRead* reads) {
        cell.pendingReads--;
        cell.readWarps |= 1u << warp;
        reads[warp] = {pc, time, component};
      });
    });
  }
  if (--accumulator.pending == 0) returnAccumulator(accumulator, pc);
}

}  // namespace

Warp::Warp() = default;
Warp::~Warp() = default;
Warp::Warp(Warp&&) noexcept = default;

void resetWgmma(Warp& warp) { warp.wgmma.reset(); }

void checkWgmmaAtExit(const Fiber& fiber) {
  const WarpWgmma& state = *fiber.block->warp[fiber.warp].wgmma;
  if (!state.open.empty() || !state.groups.empty()) {
    finding("wgmmaAtExit", "warp " + std::to_string(fiber.warp) + " ends with wgmma in flight");
  }
}

void wgmma(float* d, int n, const uint32_t* a, uint64_t descriptorA, uint64_t descriptorB,
           bool accumulate, bool transposedA, bool transposedB, bool isBf16) {
  Argument mine{d, a, n, descriptorA, descriptorB, accumulate};
  const void* pc = __builtin_return_address(0);
  collective(Collective::wgmma, kWholeWarp, &mine, pc, [&](Warp& warp, const Rendezvous& all) {
    Machine& m = machine();
    Fiber& me = *running;
    WarpWgmma& state = stateOf(warp);
    m.report->stats.wgmma++;
    WgmmaOperation o{n,      a != nullptr, accumulate,  transposedA, transposedB,
                     isBf16, descriptorA,  descriptorB, {},          nullptr};
    for (int lane = 0; lane < 32; ++lane) {
      const auto& x = argumentOf<Argument>(all, lane);
      if (x.descriptorA != descriptorA || x.descriptorB != descriptorB || x.n != n ||
          x.accumulate != accumulate) {
        fatalAt("DIVERGENCE: lanes disagree on the operands of wgmma", pc);
      }
      if (o.aInRegisters) std::memcpy(o.a[lane], x.a, sizeof o.a[lane]);
    }
    const uint64_t signature = descriptorA * 0x9e3779b97f4a7c15u ^ descriptorB * 31 ^
                               static_cast<uint64_t>(accumulate) ^
                               reinterpret_cast<uintptr_t>(pc) << 7;
    compareWithWarpgroup(me, state, signature, pc);
    if (!state.fenced) {
      finding("wgmmaFence" + atLine(pc),
              "wgmma issued without wgmma.fence since the previous commit, at " + atLine(pc));
    }
    for (const uint64_t descriptor : {o.aInRegisters ? 0 : descriptorA, descriptorB}) {
      if (descriptor >> 49 & 7) fatalAt("wgmma: descriptors with a base offset are not known", pc);
    }
    o.accumulator = &takeAccumulator(state, all, n, pc);
    forOperands(o, me.warp, [&](uint32_t address, uint32_t, uint32_t) {
      if (address + 16 > me.block->shadow.bytes()) {
        fatalAt("OUT OF BOUNDS wgmma operand in shared memory", pc);
      }
      if (m.checks) checkOperand(me, address, pc);
    });
    state.open.push_back(o);
  });
}

void wgmmaFence() {
  collective(Collective::wgmmaControl, kWholeWarp, nullptr, __builtin_return_address(0),
             [](Warp& warp, const Rendezvous&) { stateOf(warp).fenced = true; });
}

void wgmmaCommit() {
  collective(Collective::wgmmaControl, kWholeWarp, nullptr, __builtin_return_address(0),
             [](Warp& warp, const Rendezvous&) {
               WarpWgmma& state = stateOf(warp);
               state.groups.push_back(std::move(state.open));
               state.open.clear();
               state.fenced = false;
             });
}

void wgmmaWait(int pending) {
  const void* pc = __builtin_return_address(0);
  collective(Collective::wgmmaControl, kWholeWarp, nullptr, pc, [&](Warp& warp, const Rendezvous&) {
    WarpWgmma& state = stateOf(warp);
    Block& block = *running->block;
    const int w = running->warp;
    while (state.groups.size() > static_cast<size_t>(pending)) {
      for (const WgmmaOperation& o : state.groups.front()) execute(block, o, w, pc);
      state.groups.pop_front();
    }
    if (state.groups.empty() && state.open.empty()) state.accumulators.clear();
    // The wait makes the tensor core's reads known to all lanes.
    const auto component = static_cast<size_t>(block.engineComponent(w));
    KnowledgeRef before, after;
    for (int lane = 0; lane < 32; ++lane) {
      Fiber& f = laneOf(lane);
      if (!(before && before == f.known)) {
        before = f.known;
        after = KnowledgeRef::copyOf(*f.known);
        after->at[component] = block.engineTime[static_cast<size_t>(w)];
      }
      f.known = after;
    }
  });
}

}  // namespace longspan::emulator
