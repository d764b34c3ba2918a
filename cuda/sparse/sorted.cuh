// Attention over rows that are fetched through a permutation: what the walks of the exact kernels
// (cuda/attention/forward16.cuh, backward16.cuh and those for f32) need to know of sorted orders.
//
// A slot is a place in the order of a head, counted through all rounds: entry s of round r is slot
// r slots + s. What a slot meets on the other side is an interval of slots whose ends do not
// descend from slot to slot (sorted_plan.cu finds it), so that tiles are skipped as those of a band
// are. Pattern `global` goes around: its slots are counted on, below 0 and beyond the last.
#pragma once

#include "cuda/attention/backward.cuh"
#include "cuda/attention/forward.cuh"
#include "cuda/sparse/accumulate.cuh"

namespace longspan::cuda {

// The slot of a row that a round does not list: far from any interval, wrapped or not.
inline constexpr int kNoSlotByte = 0x80;
inline constexpr int kNoSlot = -0x7f7f7f80;  // four such bytes

struct SortedSide {
  const int32_t* position = nullptr;  // [B, H, R slots]: the row of each slot, -1: none
  const int32_t *begin = nullptr, *end = nullptr;  // [B, H, R slots]: slots of the other side
  const int32_t* group = nullptr;  // [B, H, R slots], where only a group's own is seen
  // [B, H, R, rows], where duplicates are corrected: of queries the first slot of keys that the row
  // meets in a round, and how many; of keys their slot, without a count.
  // With `group` of its own slots are counted with a gap after each group (sorted_plan.cu).
  const int32_t *first = nullptr, *count = nullptr;
  int slots = 0;  // of a round
  int rows = 0;

  // The row of a slot before `end` of head `head`, counted through all batch entries.
  __device__ __forceinline__ int rowOf(int64_t head, int all, int wrap, int slot, int end) const {
    if (slot >= end) return -1;
    if (wrap != 0) slot += slot < 0 ? wrap : slot >= wrap ? -wrap : 0;
    return slot < all ? position[head * all + slot] : -1;
  }
};

enum class SortedDuplicate : int { counted, corrected, sameRound };

struct Sorted {
  SortedSide queries, keys;
  int rounds = 1;
  int round = 0;   // of this launch
  int wrap = 0;    // of pattern `global`: slots until the first comes again
  int around = 0;  // the same where duplicates are counted; 0 where no pair is seen around the ends
  bool causal = false;
  float self = 0;             // added to the logit of a pair of one position, base 2
  bool replacesSelf = false;  // whose product is then left out
  // Of a backward pass, whose `self` leaves the penalty out: the penalty, base 2. Rows whose
  // log-sum-exp is below minus half of it see nothing but themselves.
  float lastResort = 0;
  SortedDuplicate duplicates = SortedDuplicate::counted;

  __host__ __device__ __forceinline__ int countedRounds() const {
    return duplicates == SortedDuplicate::counted ? 0 : rounds;
  }
};

// The rows of one head by slot; see Rows.
template <class T>
struct GatheredRows {
  T* data;
  int64_t stride, step;
  int width;
  bool aligned;
  const SortedSide& side;
  int64_t head;
  int all, wrap;  // slots of all rounds

  __device__ __forceinline__ int rowOf(int slot, int end) const {
    return side.rowOf(head, all, wrap, slot, end);
  }
  __device__ __forceinline__ bool holds(int slot, int end) const { return rowOf(slot, end) >= 0; }
  // Of a slot that holds a row.
  __device__ __forceinline__ T& at(int slot, int column) const {
    return data[rowOf(slot, kUnbounded) * stride + column * step];
  }
  __device__ __forceinline__ T* find(int slot, int end) const {
    const int row = rowOf(slot, end);
    return row >= 0 ? data + row * stride : nullptr;
  }
  // Positions are read before any copy begins, so that their latencies overlap.
  template <int kCount>
  struct Walk {
    T* column;
    int64_t stride;
    int row[kCount];
    __device__ __forceinline__ T* at(int i) const { return column + row[i] * stride; }
    __device__ __forceinline__ bool holds(int i, bool) const { return row[i] >= 0; }
  };
  template <int kCount, int kStep>
  __device__ __forceinline__ Walk<kCount> walk(int first, int column, int end) const {
    Walk<kCount> w;
    w.column = data + column, w.stride = stride;
#pragma unroll
    for (int i = 0; i < kCount; ++i) w.row[i] = rowOf(first + i * kStep, end);
    return w;
  }
};

template <class T>
__device__ __forceinline__ GatheredRows<T> gathered(const Rows<T>& rows, const Sorted& sorted,
                                                    const SortedSide& side, int64_t head) {
  return {rows.data,    rows.stride, rows.step, rows.width,
          rows.aligned, side,        head,      side.slots * sorted.rounds,
          sorted.wrap};
}

// Rounds over which duplicates are corrected: as many as tables and tiles fit for into what a block
// may have of shared memory on sm_86 and sm_89.
inline constexpr int kMostCorrectedRounds = 28;
inline constexpr int kBlockBytes = 99 * 1024;

// What a block knows of the slots of a tile, in shared memory: [5 + 2 counted rounds][kCount].
template <int kCount>
struct SlotTable {
  int32_t* at;

  __host__ __device__ static constexpr int ints(int countedRounds) {
    return (5 + 2 * countedRounds) * kCount;
  }
  __device__ __forceinline__ int32_t& position(int i) const { return at[i]; }
  __device__ __forceinline__ int32_t& begin(int i) const { return at[kCount + i]; }
  __device__ __forceinline__ int32_t& end(int i) const { return at[2 * kCount + i]; }
  __device__ __forceinline__ int32_t& group(int i) const { return at[3 * kCount + i]; }
  // Of a query that sees itself alone: its log-sum-exp without the penalty, base 2; else infinite.
  __device__ __forceinline__ float& resort(int i) const {
    return reinterpret_cast<float*>(at)[4 * kCount + i];
  }
  __device__ __forceinline__ int32_t& first(int r, int i) const {
    return at[(5 + 2 * r) * kCount + i];
  }
  __device__ __forceinline__ int32_t& count(int r, int i) const {
    return at[(6 + 2 * r) * kCount + i];
  }

  // Slots [slot, slot + kCount), as far as they lie before `stop`. resortOf(row) is asked for
  // queries of a backward pass.
  template <int kThreads, bool kRanges, class ResortOf>
  __device__ __forceinline__ void load(const Sorted& sorted, const SortedSide& side, int64_t head,
                                       int slot, int stop, int thread, ResortOf&& resortOf) const {
    const int all = side.slots * sorted.rounds;
    for (int i = thread; i < kCount; i += kThreads) {
      const int row = side.rowOf(head, all, sorted.wrap, slot + i, stop);
      position(i) = row;
      if constexpr (kRanges) {  // of slots of this round, which do not go around
        const bool inside = slot + i < stop;
        begin(i) = inside ? side.begin[head * all + slot + i] : 0;
        end(i) = inside ? side.end[head * all + slot + i] : 0;
      }
      if (side.group != nullptr) {
        int at = slot + i;
        if (sorted.wrap != 0) at += at < 0 ? sorted.wrap : at >= sorted.wrap ? -sorted.wrap : 0;
        group(i) = row >= 0 ? side.group[head * all + at] : -1;
      }
      resort(i) = resortOf(row);
#pragma unroll 1
      for (int r = 0; r < sorted.countedRounds(); ++r) {
        const int64_t at = (head * sorted.rounds + r) * side.rows + row;
        first(r, i) = row >= 0 ? side.first[at] : kNoSlot;
        count(r, i) = row >= 0 && side.count != nullptr ? side.count[at] : 0;
      }
    }
  }
};

// What becomes of the logits of pairs, base 2. forEach(f) calls f(score, i, j) for the pairs of a
// thread, at most 32 of them, always in the same order, i and j being places in the tables. Reads
// of a row's and a column's entries are shared by the pairs of a thread.
template <bool kBackward, class Queries, class Keys, class ForEach>
__device__ __forceinline__ void addSortedTerms(const Sorted& sorted, const Queries& queries,
                                               const Keys& keys, ForEach&& forEach) {
  const int open = sorted.causal ? 0 : 0x7fffffff;
  const bool ownGroup = sorted.queries.group != nullptr;
  forEach([&](float& score, int i, int j) {
    const int query = queries.position(i), key = keys.position(j);
    // A slot without a row has the largest unsigned position.
    if (static_cast<uint32_t>(key) > static_cast<uint32_t>(query | open)) {
      score = kNegativeInfinity;
    } else if (key == query) {
      score = (sorted.replacesSelf ? 0.0f : score) + sorted.self;
    }
    if (ownGroup && queries.group(i) != keys.group(j)) score = kNegativeInfinity;
  });
  if (sorted.duplicates != SortedDuplicate::counted) {
    uint32_t counts[8] = {};  // of four pairs each
    const bool crosses =
        sorted.wrap != 0 && sorted.duplicates == SortedDuplicate::corrected && !ownGroup;
#pragma unroll 1
    for (int r = 0; r < sorted.rounds; ++r) {
#pragma unroll 1
      for (int s = crosses ? 0 : r; s < (crosses ? sorted.rounds : r + 1); ++s) {
        int pair = 0;
        forEach([&](float&, int i, int j) {
          const auto distance =
              static_cast<uint32_t>(keys.first(s, j)) - static_cast<uint32_t>(queries.first(r, i));
          const bool seen = min(distance, distance + static_cast<uint32_t>(sorted.around)) <
                            static_cast<uint32_t>(queries.count(r, i));
          counts[pair / 4] += seen ? 1u << 8 * (pair % 4) : 0u;
          ++pair;
        });
      }
    }
    // As the code has it whose convention `sameRound` is: never 0, but nearly.
    const float least = sorted.duplicates == SortedDuplicate::sameRound ? 1e-9f : 1.0f;
    int pair = 0;
    forEach([&](float& score, int, int) {
      const auto n = static_cast<float>(counts[pair / 4] >> 8 * (pair % 4) & 255u);
      ++pair;
      if (n != 1) score -= ptx::log2Approx(fmaxf(n, least));
    });
  }
  if (!kBackward || sorted.lastResort == 0) return;
  // The weight of a last resort is 0 beside other keys, else one over a whole number: the
  // log-sum-exp was rounded at the size of the penalty.
  forEach([&](float& score, int i, int j) {
    if (keys.position(j) != queries.position(i)) return;
    const float own = queries.resort(i), n = rintf(ptx::exp2Approx(own - score));
    score = own < kNothing ? own - ptx::log2Approx(fmaxf(n, 1.0f)) : kNegativeInfinity;
  });
}

}  // namespace longspan::cuda
