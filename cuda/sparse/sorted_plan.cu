// The plan of sorted attention: of every slot its row and the interval of slots that it meets, and,
// where duplicates are corrected, both by position too.
//
// A thread per slot: a binary search for its group, another for the last key that a causal query
// may see; then, for backward passes, a thread per key finds by two searches the queries that see
// it: right for any pattern, since intervals do not descend. Orders and offsets that do not fit are
// clamped, never followed outside the tensors.
//
// Bytes: 4 read, 12 written per slot, 4 to 12 more scattered by position, some 2 log2(G) + 2
// log2(M) reads, mostly of cached lines. Predicted for an H200, 65536 tokens, 8 heads, 4 rounds: 60
// us, some 2 % of the forward pass. Right on an H200; times: bench/results/nvidia-h200.json.
#include <limits>

#include "cuda/sparse/sorted_plan.cuh"

namespace longspan::cuda {
namespace {

struct SortedPlanArguments {
  const int32_t *queryOrder, *keyOrder;      // [heads, R, slots]
  const int32_t *queryOffsets, *keyOffsets;  // [heads, R, G + 1]
  const int32_t* lengths;                    // [B] or null
  int64_t lengthStep;
  SortedPlan plan;
  int heads, headsOfEntry, rounds, groups, querySlots, keySlots, queries, keys;
  ops::SortedPattern pattern;
  int64_t chunk, back, forward, window;  // clamped to kUnbounded
  int gap, around;                       // see CountedSlots
  bool causal;
  float *lse, *roundLse;
};

// The first of the ascending elements [begin, end) of x that is above `least`.
__device__ __forceinline__ int firstSlotAbove(const int32_t* x, int begin, int end, int least) {
  while (begin < end) {
    const int middle = begin + (end - begin) / 2;
    if (x[middle] > least) {
      end = middle;
    } else {
      begin = middle + 1;
    }
  }
  return begin;
}

// A slot of one side: where it is, and its row or -1.
struct SortedSlot {
  int head, round, entry, group;
  int64_t line;  // head and round
  int row;

  __device__ __forceinline__ static SortedSlot of(const SortedPlanArguments& a, int64_t at,
                                                  const int32_t* order, const int32_t* offsets,
                                                  int slots, int rows) {
    SortedSlot p;
    p.line = at / slots;
    p.entry = static_cast<int>(at % slots);
    p.head = static_cast<int>(p.line / a.rounds), p.round = static_cast<int>(p.line % a.rounds);
    const int32_t* const starts = offsets + p.line * (a.groups + 1);
    // 0 to G - 1, or -1 and G beside all groups.
    p.group = firstSlotAbove(starts, 0, a.groups + 1, p.entry) - 1;
    p.row = order[at];
    const bool listed = p.group >= 0 && p.group < a.groups && p.row >= 0 && p.row < rows;
    const bool exists =
        a.lengths == nullptr || p.row < a.lengths[p.head / a.headsOfEntry * a.lengthStep];
    if (!listed || !exists) p.row = -1;
    return p;
  }
};

__device__ __forceinline__ Range chunksAround(const SortedPlanArguments& a, int slot,
                                              int64_t before, int64_t after) {
  const int64_t chunks = (int64_t{a.rounds} * a.querySlots + a.chunk - 1) / a.chunk;
  if (before + 1 + after >= chunks) return {0, static_cast<int>(chunks * a.chunk)};
  const int64_t c = slot / a.chunk;
  return {static_cast<int>((c - before) * a.chunk), static_cast<int>((c + 1 + after) * a.chunk)};
}

// Which entries of its round's keys an entry of queries sees.
__device__ __forceinline__ Range entriesSeen(const SortedPlanArguments& a, const SortedSlot& p) {
  const int32_t* const starts = a.keyOffsets + p.line * (a.groups + 1);
  const auto start = [&](int g) { return clampTo(starts[g], 0, a.keySlots); };
  if (p.group < 0) return {start(0), start(0)};
  if (p.group >= a.groups) return {start(a.groups), start(a.groups)};
  const int first = start(p.group), stop = max(start(p.group + 1), first);
  const int64_t size = stop - first;
  Range seen{first, stop};
  if (a.pattern == ops::SortedPattern::chunk) {
    const int64_t c = (p.entry - a.queryOffsets[p.line * (a.groups + 1) + p.group]) / a.chunk;
    const int64_t before = (c - a.back) * a.chunk, after = (c + 1 + a.forward) * a.chunk;
    seen.begin = first + static_cast<int>(before < 0 ? 0 : before < size ? before : size);
    seen.end = first + static_cast<int>(after < size ? after : size);
  }
  if (a.causal) {
    const int row = a.queryOrder[p.line * a.querySlots + p.entry];
    seen.end = min(seen.end, firstSlotAbove(a.keyOrder + p.line * a.keySlots, first, stop, row));
  }
  if (a.pattern == ops::SortedPattern::window) {
    seen.begin = max(seen.begin, seen.end - static_cast<int>(a.window));
  }
  seen.end = max(seen.begin, seen.end);
  return seen;
}

__device__ __forceinline__ void planSortedQuery(const SortedPlanArguments& a, int64_t at) {
  const SortedPlan::Side& to = a.plan.queries;
  const SortedSlot p = SortedSlot::of(a, at, a.queryOrder, a.queryOffsets, a.querySlots, a.queries);
  Range seen;
  if (a.pattern == ops::SortedPattern::global) {
    seen = chunksAround(a, p.round * a.querySlots + p.entry, a.back, a.forward);
  } else {
    seen = entriesSeen(a, p);
    seen.begin += p.round * a.keySlots, seen.end += p.round * a.keySlots;
  }
  to.position[at] = p.row;
  to.begin[at] = seen.begin, to.end[at] = seen.end;
  if (to.group != nullptr) to.group[at] = p.round * a.groups + p.group;
  if (to.first == nullptr || p.row < 0) return;
  const int64_t place = p.line * a.queries + p.row;
  to.first[place] = seen.begin + (seen.begin < 0 ? a.around : 0) + p.group * a.gap;
  to.count[place] = seen.end - seen.begin;
}

__device__ __forceinline__ void planSortedKey(const SortedPlanArguments& a, int64_t at) {
  const SortedPlan::Side& to = a.plan.keys;
  const SortedSlot p = SortedSlot::of(a, at, a.keyOrder, a.keyOffsets, a.keySlots, a.keys);
  to.position[at] = p.row;
  if (to.group != nullptr) to.group[at] = p.round * a.groups + p.group;
  if (to.first != nullptr && p.row >= 0) {
    to.first[p.line * a.keys + p.row] = p.round * a.keySlots + p.entry + p.group * a.gap;
  }
}

// One thread per slot of queries, slot of keys, element of lse and of roundLse.
__global__ void __launch_bounds__(256) sortedPlan(const __grid_constant__ SortedPlanArguments a) {
  const int64_t lines = int64_t{a.heads} * a.rounds;
  int64_t at = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (at < lines * a.querySlots) return planSortedQuery(a, at);
  at -= lines * a.querySlots;
  if (at < lines * a.keySlots) return planSortedKey(a, at);
  at -= lines * a.keySlots;
  if (a.lse != nullptr) {
    if (at < int64_t{a.heads} * a.queries) {
      a.lse[at] = kNegativeInfinity;
      return;
    }
    at -= int64_t{a.heads} * a.queries;
  }
  if (a.roundLse != nullptr && at < lines * a.queries) a.roundLse[at] = kNegativeInfinity;
}

// One thread per slot of keys, after sortedPlan: the queries that see it.
__global__ void __launch_bounds__(256)
    sortedConverse(const __grid_constant__ SortedPlanArguments a) {
  const int64_t at = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (at >= int64_t{a.heads} * a.rounds * a.keySlots) return;
  const int64_t line = at / a.keySlots;
  const int round = static_cast<int>(line % a.rounds);
  const int key = round * a.keySlots + static_cast<int>(at % a.keySlots);
  Range seen;
  if (a.pattern == ops::SortedPattern::global) {
    seen = chunksAround(a, key, a.forward, a.back);
  } else {
    const int first = round * a.querySlots;
    const int64_t from = line * a.querySlots;
    seen = {first + firstSlotAbove(a.plan.queries.end + from, 0, a.querySlots, key),
            first + firstSlotAbove(a.plan.queries.begin + from, 0, a.querySlots, key)};
  }
  a.plan.keys.begin[at] = seen.begin, a.plan.keys.end[at] = seen.end;
}

int64_t sortedHeads(const ops::SortedAttentionProblem& p) { return p.batch() * p.queryHeads(); }

int64_t bounded(int64_t x) { return std::min<int64_t>(x, kUnbounded); }

int sortedWrap(const ops::SortedAttentionProblem& p) {
  return p.isGlobal() ? static_cast<int>(p.chunks() * p.chunk) : 0;
}

// How slots are numbered to count in how many ways a pair is seen: query i sees key j in a round
// when (slot of j - first slot of i) < count, unsigned, or when that plus `around` is. Where only
// pairs of one group are seen, a gap after each group keeps the others further away than any count.
struct CountedSlots {
  int64_t gap = 0;
  int around = 0;

  explicit CountedSlots(const ops::SortedAttentionProblem& p) {
    if (!p.isGlobal() || !p.corrects()) return;
    around = sortedWrap(p);
    if (!p.sameGroup) return;
    // Slots of one round, of which there are `slots`, are less than `slots` apart, and a first slot
    // is less than `seen` before its query's.
    const int64_t slots = p.queryEntries(), wrap = around;
    const int64_t seen =
        std::min(bounded(p.back) + 1 + bounded(p.forward), p.chunks()) * bounded(p.chunk);
    gap = 2 * wrap;
    if (seen < wrap && seen + slots > wrap) return;  // its own round, around the ends
    around = 0;
    const bool shared =
        p.queryOrder.base == p.keyOrder.base && p.queryOrder.offset == p.keyOrder.offset &&
        p.queryOffsets.base == p.keyOffsets.base && p.queryOffsets.offset == p.keyOffsets.offset;
    // In one order later groups have later slots.
    gap = shared ? seen : seen + slots;
  }
  bool fits(const ops::SortedAttentionProblem& p) const {
    return p.groups() * gap + 2 * int64_t{sortedWrap(p)} <= std::numeric_limits<int32_t>::max();
  }
};

}  // namespace

SortedPlan::SortedPlan(const ops::SortedAttentionProblem& p, bool backward, Pieces& pieces) {
  const int64_t lines = sortedHeads(p) * p.rounds();
  const int64_t querySlots = lines * p.queryEntries(), keySlots = lines * p.keyEntries();
  queries = keys = {};
  queries.position = pieces.take<int32_t>(querySlots);
  queries.begin = pieces.take<int32_t>(querySlots);
  queries.end = pieces.take<int32_t>(querySlots);
  keys.position = pieces.take<int32_t>(keySlots);
  if (backward) {
    keys.begin = pieces.take<int32_t>(keySlots);
    keys.end = pieces.take<int32_t>(keySlots);
  }
  if (p.sameGroup) {
    queries.group = pieces.take<int32_t>(querySlots);
    keys.group = pieces.take<int32_t>(keySlots);
  }
  if (p.corrects()) {
    keyPlaces = lines * p.keys(), queryPlaces = lines * p.queries();
    int32_t* const places = pieces.take<int32_t>(keyPlaces + 2 * queryPlaces);
    if (places == nullptr) return;  // only counted
    keys.first = places;
    queries.first = places + keyPlaces;
    queries.count = queries.first + queryPlaces;
  }
}

Status makePlan(const ops::SortedAttentionProblem& p, const SortedPlan& plan, float* lse,
                float* roundLse, cudaStream_t stream) {
  const CountedSlots counted(p);
  SortedPlanArguments a{p.queryOrder.data<int32_t>(),
                        p.keyOrder.data<int32_t>(),
                        p.queryOffsets.data<int32_t>(),
                        p.keyOffsets.data<int32_t>(),
                        p.lengths.defined() ? p.lengths.data<int32_t>() : nullptr,
                        p.lengths.defined() ? p.lengths.stride[0] : 0,
                        plan,
                        static_cast<int>(sortedHeads(p)),
                        static_cast<int>(p.queryHeads()),
                        static_cast<int>(p.rounds()),
                        static_cast<int>(p.groups()),
                        static_cast<int>(p.queryEntries()),
                        static_cast<int>(p.keyEntries()),
                        static_cast<int>(p.queries()),
                        static_cast<int>(p.keys()),
                        p.pattern,
                        std::max<int64_t>(bounded(p.chunk), 1),
                        bounded(p.back),
                        bounded(p.forward),
                        bounded(p.window),
                        static_cast<int>(counted.gap),
                        counted.around,
                        p.causal,
                        lse,
                        roundLse};
  if (p.corrects()) {  // where a round does not list a position
    const auto bytes = [](int64_t count) { return static_cast<size_t>(count) * sizeof(int32_t); };
    if (plan.keyPlaces > 0) {
      LONGSPAN_RETURN_IF_ERROR(
          launched(cudaMemsetAsync(plan.keys.first, kNoSlotByte, bytes(plan.keyPlaces), stream)));
    }
    if (plan.queryPlaces > 0) {
      LONGSPAN_RETURN_IF_ERROR(
          launched(cudaMemsetAsync(plan.queries.first, 0, bytes(2 * plan.queryPlaces), stream)));
    }
  }
  const int64_t lines = sortedHeads(p) * p.rounds();
  int64_t count = lines * (p.queryEntries() + p.keyEntries());
  if (lse != nullptr) count += sortedHeads(p) * p.queries();
  if (roundLse != nullptr) count += lines * p.queries();
  dim3 grid;
  LONGSPAN_RETURN_IF_ERROR(gridOf((count + 255) / 256, &grid));
  LONGSPAN_RETURN_IF_ERROR(launched(launch(sortedPlan, grid, dim3(256), 0, stream, a)));
  if (plan.keys.begin == nullptr) return {};
  LONGSPAN_RETURN_IF_ERROR(gridOf((lines * p.keyEntries() + 255) / 256, &grid));
  return launched(launch(sortedConverse, grid, dim3(256), 0, stream, a));
}

Sorted sortedOf(const ops::SortedAttentionProblem& p, const SortedPlan& plan, bool backward) {
  constexpr double kLog2 = 1.4426950408889634;
  const auto side = [](const SortedPlan::Side& from, int64_t slots, int64_t rows) {
    return SortedSide{from.position,
                      from.begin,
                      from.end,
                      from.group,
                      from.first,
                      from.count,
                      static_cast<int>(slots),
                      static_cast<int>(rows)};
  };
  Sorted s;
  s.queries = side(plan.queries, p.queryEntries(), p.queries());
  s.keys = side(plan.keys, p.keyEntries(), p.keys());
  s.rounds = static_cast<int>(p.rounds());
  s.wrap = sortedWrap(p);
  s.around = CountedSlots(p).around;
  s.causal = p.isGlobal() && p.causal;
  s.replacesSelf = p.self == ops::SortedSelf::lastResort;
  if (p.self == ops::SortedSelf::hidden) {
    s.self = -INFINITY;
  } else if (p.self != ops::SortedSelf::ordinary) {
    (backward ? s.lastResort : s.self) =
        static_cast<float>((backward ? p.selfPenalty : -p.selfPenalty) * kLog2);
  }
  if (p.corrects()) {
    s.duplicates = p.duplicates == ops::SortedDuplicates::sameRound ? SortedDuplicate::sameRound
                                                                    : SortedDuplicate::corrected;
  }
  return s;
}

Problem problemOf(const ops::SortedAttentionProblem& p) {
  Problem problem;
  problem.q = operandOf(p.q);
  problem.k = operandOf(p.k);
  problem.v = operandOf(p.v);
  problem.batch = static_cast<int>(p.batch());
  problem.queryHeads = static_cast<int>(p.queryHeads());
  problem.keyHeads = static_cast<int>(p.keyHeads());
  problem.queries = static_cast<int>(p.queries());
  problem.keys = static_cast<int>(p.keys());
  problem.dim = static_cast<int>(p.dim());
  problem.valueDim = static_cast<int>(p.valueDim());
  problem.left = problem.right = kUnbounded;
  problem.score = Score(p.scale, 0, p.hasTerms());
  return problem;
}

Status checkSorted(const ops::SortedAttentionProblem& p) {
  if (!p.corrects()) return {};
  if (!CountedSlots(p).fits(p)) {
    return Status(Code::unsupported, "duplicates",
                  "corrected over " + std::to_string(p.groups()) +
                      " groups in pattern 'global' with sameGroup",
                  "Use pattern 'chunk', which shows groups alone, fewer groups, or the CPU");
  }
  // Ways to see a pair fit into a byte.
  const int64_t most = p.isGlobal() && !p.sameGroup ? 15 : kMostCorrectedRounds;
  if (p.rounds() <= most) return {};
  return Status(Code::unsupported, "duplicates", "corrected over " + std::to_string(p.rounds()),
                "Use at most " + std::to_string(most) +
                    " rounds on a GPU, or let pairs of several rounds count several times");
}

}  // namespace longspan::cuda
