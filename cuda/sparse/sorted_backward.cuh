// The walk of backward16.cuh and backward32.cuh over sorted orders: a tile of slots of one round
// stays, the slots that they meet stream by. As in sorted_forward.cuh a launch has the tiles of one
// round, and gradients of rounds are added up in the order of the launches: deterministic.
#pragma once

#include "cuda/sparse/sorted.cuh"

namespace longspan::cuda {

struct SortedBackwardArguments : BackwardArguments {
  Sorted sorted;
  Operand sumQ, sumK, sumV;  // in f32; without data a single launch writes the gradients
  int member;                // which query head of each group the tiles of keys are of
};

template <bool kKeySide_, int kRows, int kColumns, int kStages>
struct SortedBackward {
  using Arguments = SortedBackwardArguments;
  static constexpr bool kKeySide = kKeySide_, kDrops = false;
  const SortedBackwardArguments& a;
  int row, stop;  // slots that stay, and where those of their round end
  int b, h;       // query head
  int64_t head;
  int begin, end, tiles;  // slots that stream by
  bool surplus;
  SlotTable<kRows> own;
  int32_t* streaming;  // a table per stage

  static constexpr int tableBytes(int countedRounds) {
    return 4 * (SlotTable<kRows>::ints(countedRounds) +
                kStages * SlotTable<kColumns>::ints(countedRounds));
  }
  __device__ __forceinline__ const SortedSide& ownSide() const {
    return kKeySide ? a.sorted.keys : a.sorted.queries;
  }
  __device__ __forceinline__ const SortedSide& otherSide() const {
    return kKeySide ? a.sorted.queries : a.sorted.keys;
  }

  template <int, int>
  __device__ __forceinline__ static SortedBackward start(const SortedBackwardArguments& a,
                                                         uint8_t* shared) {
    const Problem& p = a.problem;
    const Sorted& s = a.sorted;
    const SortedSide& side = kKeySide ? s.keys : s.queries;
    const uint32_t tilesOfRound = static_cast<uint32_t>(side.slots + kRows - 1) / kRows;
    const int round = s.round * side.slots;
    int head = static_cast<int>(blockIdx.x / tilesOfRound);
    if (kKeySide) head = head * p.group() + a.member;
    int32_t* const table = reinterpret_cast<int32_t*>(shared);
    SortedBackward w{a,
                     round + static_cast<int>(blockIdx.x % tilesOfRound) * kRows,
                     round + side.slots,
                     head / p.queryHeads,
                     head % p.queryHeads,
                     head,
                     0,
                     0,
                     0,
                     false,
                     {table},
                     table + SlotTable<kRows>::ints(s.countedRounds())};
    const int64_t at = w.head * side.slots * s.rounds;
    w.begin = side.begin[at + w.row];
    w.end = side.end[at + min(w.row + kRows, w.stop) - 1];
    w.tiles = w.begin < w.end ? (w.end - w.begin + kColumns - 1) / kColumns : 0;
    return w;
  }
  __device__ __forceinline__ int steps() const { return tiles; }
  __device__ __forceinline__ int tile(int step, int) const { return begin + step * kColumns; }
  __device__ __forceinline__ SlotTable<kColumns> stage(int step) const {
    return {streaming + step % kStages * SlotTable<kColumns>::ints(a.sorted.countedRounds())};
  }

  template <class T>
  __device__ __forceinline__ GatheredRows<T> queriesOf(const Operand& t, int width) const {
    return gathered(rowsOf<T>(t, b, h, width), a.sorted, a.sorted.queries, head);
  }
  template <class T>
  __device__ __forceinline__ GatheredRows<T> keysOf(const Operand& t, int width) const {
    return gathered(rowsOf<T>(t, b, h / a.problem.group(), width), a.sorted, a.sorted.keys, head);
  }
  template <class T>
  __device__ __forceinline__ GatheredRows<T> stayingFirst() const {
    return kKeySide ? keysOf<T>(a.problem.k, a.problem.dim)
                    : queriesOf<T>(a.problem.q, a.problem.dim);
  }
  template <class T>
  __device__ __forceinline__ GatheredRows<T> stayingSecond() const {
    return kKeySide ? keysOf<T>(a.problem.v, a.problem.valueDim)
                    : queriesOf<T>(a.gradO, a.problem.valueDim);
  }
  template <class T>
  __device__ __forceinline__ GatheredRows<T> streamingFirst(int) const {
    return kKeySide ? queriesOf<T>(a.problem.q, a.problem.dim)
                    : keysOf<T>(a.problem.k, a.problem.dim);
  }
  template <class T>
  __device__ __forceinline__ GatheredRows<T> streamingSecond(int) const {
    return kKeySide ? queriesOf<T>(a.gradO, a.problem.valueDim)
                    : keysOf<T>(a.problem.v, a.problem.valueDim);
  }
  __device__ __forceinline__ int stayingEnd() const { return stop; }
  // Slots that go around are below 0 too: an absent gradient ends before all of them.
  __device__ __forceinline__ int gradient(int last) const {
    return a.hasGradO ? last : -kUnbounded;
  }

  // Of a query that sees itself alone the log-sum-exp without the penalty, else infinite.
  __device__ __forceinline__ float resortOf(int position) const {
    if (a.sorted.lastResort == 0 || position < 0) return INFINITY;
    const float base = a.base[head * a.problem.queries + position];
    return base < -a.sorted.lastResort / 2 ? base + a.sorted.lastResort : INFINITY;
  }
  // Base and delta of a position; a slot without a row gives no weight to any key.
  __device__ __forceinline__ void statisticsOf(int position, float& base, float& delta) const {
    base = kNothing, delta = 0;
    if (position < 0) return;
    const int64_t at = head * a.problem.queries + position;
    base = a.base[at], delta = a.delta[at];
    const float own = resortOf(position);
    if (own == INFINITY) return;
    base = own;
    // The logit of such a query is a constant.
    if (a.sorted.replacesSelf && a.gradLse.data != nullptr) {
      delta += rowsOf<float>(a.gradLse, b, h, 1).at(position, 0);
    }
  }
  template <class Tile>
  __device__ __forceinline__ void loadStatistics(float* to, int step, int thread) const {
    const int first = tile(step, kColumns);
    const SortedSide& side = otherSide();
    const bool terms = !a.problem.score.plain;
    if (terms) {
      stage(step).template load<Tile::kThreads, false>(
          a.sorted, side, head, first, end, thread,
          [&](int position) { return kKeySide ? resortOf(position) : 0.0f; });
      if (step == 0) {
        own.template load<Tile::kThreads, true>(
            a.sorted, ownSide(), head, row, stop, thread,
            [&](int position) { return kKeySide ? 0.0f : resortOf(position); });
      }
    } else if (step == 0) {
      own.template load<Tile::kThreads, true>(a.sorted, ownSide(), head, row, stop, thread,
                                              [](int) { return 0.0f; });
    }
    if constexpr (kKeySide) {
      for (int c = thread; c < kColumns; c += Tile::kThreads) {
        statisticsOf(side.rowOf(head, side.slots * a.sorted.rounds, a.sorted.wrap, first + c, end),
                     to[c], to[kColumns + c]);
      }
    }
  }
  __device__ __forceinline__ int positionOf(int slot) const {
    const SortedSide& side = ownSide();
    return side.rowOf(head, side.slots * a.sorted.rounds, 0, slot, stop);
  }
  __device__ __forceinline__ void loadStatistics(int query, float& base, float& delta) const {
    statisticsOf(positionOf(query), base, delta);
  }

  __device__ __forceinline__ bool sees(int staying, int slot) const {
    return slot >= own.begin(staying - row) && slot < own.end(staying - row);
  }
  __device__ __forceinline__ bool whole(Range staying, Range slots) const {
    return staying.end <= stop && slots.end <= end &&
           own.begin(staying.end - 1 - row) <= slots.begin &&
           own.end(staying.begin - row) >= slots.end;
  }
  __device__ __forceinline__ bool meet(Range staying, Range slots) const {
    const int last = min(staying.end, stop) - 1;
    return staying.begin <= last && slots.begin < own.end(last - row) &&
           slots.end > own.begin(staying.begin - row);
  }
  __device__ __forceinline__ bool hidden(int, Range, Range) const { return false; }
  template <class T, int, class ForEach>
  __device__ __forceinline__ void add(int step, ForEach&& forEach) const {
    const SlotTable<kColumns> other = stage(step);
    const int first = tile(step, kColumns);
    const auto pairs = [&](auto&& f) {
      forEach([&](float& score, int staying, int slot) {
        if constexpr (kKeySide) {
          f(score, slot - first, staying - row);
        } else {
          f(score, staying - row, slot - first);
        }
      });
    };
    if constexpr (kKeySide) {
      addSortedTerms<true>(a.sorted, other, own, pairs);
    } else {
      addSortedTerms<true>(a.sorted, own, other, pairs);
    }
  }

  template <int kDim, bool kFenced, class T>
  __device__ __forceinline__ void store(const float (&x)[kDim / 8][4], float factor, T* staging,
                                        int slot, const Operand& sum,
                                        const GatheredRows<T>& target) const {
    if (sum.data == nullptr) {
      const float factors[2] = {factor, factor};
      storeRows<kDim, kFenced>(x, factors, staging, target, slot, stop);
      return;
    }
    const Rows<float> rows =
        rowsOf<float>(sum, b, kKeySide ? h / a.problem.group() : h, target.width);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      mergePairs<kDim>(x, i, factor, 1.0f, rows,
                       positionOf(slot + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * i));
    }
  }
  template <int kDim, bool kFenced, class T>
  __device__ __forceinline__ void storeFirst(const float (&x)[kDim / 8][4], T* staging,
                                             int slot) const {
    store<kDim, kFenced, T>(
        x, a.problem.score.scale, staging, slot, kKeySide ? a.sumK : a.sumQ,
        kKeySide ? keysOf<T>(a.gradK, a.problem.dim) : queriesOf<T>(a.gradQ, a.problem.dim));
  }
  template <int kDim, class T>
  __device__ __forceinline__ void storeSecond(const float (&x)[kDim / 8][4], T* staging,
                                              int slot) const {
    store<kDim, true, T>(x, 1.0f, staging, slot, a.sumV, keysOf<T>(a.gradV, a.problem.valueDim));
  }
  template <int kDim>
  __device__ __forceinline__ void store32(const float (&x)[kDim / 16], float factor, int slot,
                                          int thread, const Operand& sum, int width) const {
    const int position = positionOf(slot);
    if (position < 0) return;
    mergeRow32<kDim>(x, factor, 1.0f,
                     rowsOf<float>(sum, b, kKeySide ? h / a.problem.group() : h, width), position,
                     thread);
  }
  template <int kDim>
  __device__ __forceinline__ void storeFirst32(const float (&x)[kDim / 16], int slot,
                                               int thread) const {
    store32<kDim>(x, a.problem.score.scale, slot, thread, kKeySide ? a.sumK : a.sumQ,
                  a.problem.dim);
  }
  template <int kDim>
  __device__ __forceinline__ void storeSecond32(const float (&x)[kDim / 16], int slot,
                                                int thread) const {
    store32<kDim>(x, 1.0f, slot, thread, a.sumV, a.problem.valueDim);
  }
};

}  // namespace longspan::cuda
