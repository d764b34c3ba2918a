// Rendezvous of lanes, and the operations that need nothing more: shuffles, votes, __syncwarp.
#include "cuda/emulator/collective.h"
#include "cuda/emulator/instructions.h"

namespace longspan::emulator {

const char* nameOf(Collective kind) {
  switch (kind) {
    case Collective::syncWarp:
      return "__syncwarp";
    case Collective::shuffle:
      return "__shfl_sync";
    case Collective::vote:
      return "a vote or reduction of the warp";
    case Collective::elect:
      return "elect.sync";
    case Collective::loadMatrix:
      return "ldmatrix";
    case Collective::storeMatrix:
      return "stmatrix";
    case Collective::mma:
      return "mma.sync";
    case Collective::wgmma:
      return "wgmma.mma_async";
    case Collective::wgmmaControl:
      return "wgmma fence, commit or wait";
    default:
      return "setmaxnreg";
  }
}

bool arrive(Collective kind, uint32_t mask, void* argument, const void* pc, Rendezvous* finished) {
  Fiber& me = *running;
  Warp& warp = me.block->warp[me.warp];
  const std::string name = "DIVERGENCE: ";
  if (!(mask >> me.lane & 1)) {
    fatalAt(name + nameOf(kind) + " called by a lane that is not in its own mask", pc);
  }
  if (mask & warp.exitedLanes) {
    fatalAt(name + nameOf(kind) + " names a lane that has exited or does not exist", pc);
  }
  for (size_t i = 0; i < warp.rendezvous.size(); ++i) {
    Rendezvous& r = warp.rendezvous[i];
    if (!(r.mask & mask)) continue;
    if (r.mask != mask || r.kind != kind) {
      const int other = __builtin_ctz(r.arrived);
      fatal(name + "lane " + std::to_string(me.lane) + " is in " + nameOf(kind) + " at " +
            atLine(pc) + " while lane " + std::to_string(other) + " of its warp waits in " +
            nameOf(r.kind) + " at " + atLine(laneOf(other).waiting.pc));
    }
    r.argument[me.lane] = argument;
    r.arrived |= 1u << me.lane;
    me.waiting.pc = pc;
    if (r.arrived == mask) {
      *finished = r;
      warp.rendezvous[i] = warp.rendezvous.back();
      warp.rendezvous.pop_back();
      return true;
    }
    emulator::block({nameOf(kind), 0, 0, pc});
    return false;
  }
  Rendezvous fresh{kind, mask, 1u << me.lane, {}};
  fresh.argument[me.lane] = argument;
  if (fresh.arrived == mask) {
    *finished = fresh;
    return true;
  }
  warp.rendezvous.push_back(fresh);
  emulator::block({nameOf(kind), 0, 0, pc});
  return false;
}

void release(const Rendezvous& all) {
  forLanes(all.mask & ~(1u << running->lane), [&](int lane) { wake(laneOf(lane)); });
}

void syncWarp(uint32_t mask) {
  collective(Collective::syncWarp, mask, nullptr, __builtin_return_address(0),
             [&](Warp&, const Rendezvous&) {
               Gathering all;
               forLanes(mask, [&](int lane) {
                 Fiber& f = laneOf(lane);
                 all.add(f.known, f.id, f.time);
                 f.time++;
               });
               forLanes(mask, [&](int lane) { laneOf(lane).known = all.sum(); });
             });
}

namespace {
struct ShuffleArgument {
  uint64_t value, result;
  Shuffle mode;
  int argument, width;
};

int sourceLane(const ShuffleArgument& s, int lane) {
  const int base = lane & ~(s.width - 1);
  int source = lane;
  switch (s.mode) {
    case Shuffle::index:
      return base + (s.argument & (s.width - 1));
    case Shuffle::exclusiveOr:
      source = lane ^ s.argument;
      return source >= base + s.width ? lane : source;
    case Shuffle::up:
      source = lane - s.argument;
      return source < base ? lane : source;
    default:
      source = lane + s.argument;
      return source >= base + s.width ? lane : source;
  }
}

struct VoteArgument {
  uint32_t value, result;
};
}  // namespace

uint64_t shuffle(uint32_t mask, Shuffle mode, uint64_t value, int argument, int width) {
  ShuffleArgument mine{value, 0, mode, argument, width};
  collective(Collective::shuffle, mask, &mine, __builtin_return_address(0),
             [&](Warp&, const Rendezvous& all) {
               forLanes(mask, [&](int lane) {
                 auto& s = argumentOf<ShuffleArgument>(all, lane);
                 const int source = sourceLane(s, lane);
                 if (!(mask >> source & 1)) {
                   fatalAt("DIVERGENCE: __shfl_sync reads a lane outside its mask",
                           laneOf(lane).waiting.pc);
                 }
                 s.result = argumentOf<ShuffleArgument>(all, source).value;
               });
             });
  return mine.result;
}

uint32_t ballot(uint32_t mask, bool predicate) {
  VoteArgument mine{predicate, 0};
  collective(
      Collective::vote, mask, &mine, __builtin_return_address(0),
      [&](Warp&, const Rendezvous& all) {
        uint32_t votes = 0;
        forLanes(mask,
                 [&](int lane) { votes |= argumentOf<VoteArgument>(all, lane).value << lane; });
        forLanes(mask, [&](int lane) { argumentOf<VoteArgument>(all, lane).result = votes; });
      });
  return mine.result;
}

uint32_t matchAny(uint32_t mask, uint32_t value) {
  VoteArgument mine{value, 0};
  collective(Collective::vote, mask, &mine, __builtin_return_address(0),
             [&](Warp&, const Rendezvous& all) {
               forLanes(mask, [&](int lane) {
                 auto& v = argumentOf<VoteArgument>(all, lane);
                 forLanes(mask, [&](int other) {
                   if (argumentOf<VoteArgument>(all, other).value == v.value)
                     v.result |= 1u << other;
                 });
               });
             });
  return mine.result;
}

uint32_t reduceLanes(uint32_t mask, uint32_t value, int operation) {
  VoteArgument mine{value, 0};
  collective(Collective::vote, mask, &mine, __builtin_return_address(0),
             [&](Warp&, const Rendezvous& all) {
               uint32_t result = argumentOf<VoteArgument>(all, __builtin_ctz(mask)).value;
               forLanes(mask & (mask - 1), [&](int lane) {
                 const uint32_t x = argumentOf<VoteArgument>(all, lane).value;
                 if (operation == 0) result += x;
                 if (operation == 1 && x > result) result = x;
                 if (operation == 2 && x < result) result = x;
               });
               forLanes(mask,
                        [&](int lane) { argumentOf<VoteArgument>(all, lane).result = result; });
             });
  return mine.result;
}

bool electOne(uint32_t mask) {
  collective(Collective::elect, mask, nullptr, __builtin_return_address(0),
             [](Warp&, const Rendezvous&) {});
  return running->lane == __builtin_ctz(mask);
}

void setRegisters() {
  collective(Collective::setRegisters, kWholeWarp, nullptr, __builtin_return_address(0),
             [](Warp&, const Rendezvous&) {});
}

}  // namespace longspan::emulator
