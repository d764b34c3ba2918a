// The walk of forward16.cuh and forward32.cuh over sorted orders: a tile of query slots of one
// round and the slots of keys that they meet. A launch has the tiles of one round; a position
// stands in a round once, so that no two blocks write to one row, and rounds follow each other on
// the stream.
#pragma once

#include "cuda/sparse/sorted.cuh"

namespace longspan::cuda {

struct SortedForwardArguments {
  Problem problem;
  Sorted sorted;
  Operand o;        // what 16-bit results of a single round go to
  Operand sum;      // [B, H, N, Dv] in f32 or without data: results of all rounds so far
  float* lse;       // [B, H, N], of all rounds so far
  float* roundLse;  // [B, H, R, N] or null
};

// Two parts of one softmax: the factors of their normalised results, and the log-sum-exp of both.
struct Merged {
  float before, now, lse;
  __device__ __forceinline__ static Merged of(float before, float now) {
    const float top = fmaxf(before, now);
    if (top == kNegativeInfinity) return {0, 0, top};
    const float a = ptx::exp2Approx((before - top) * kLog2E);
    const float b = ptx::exp2Approx((now - top) * kLog2E);
    const float sum = a + b;
    return {a / sum, b / sum, top + logf(sum)};
  }
};

template <int kRows, int kKeys>
struct SortedForward {
  using Arguments = SortedForwardArguments;
  static constexpr bool kDrops = false;
  const SortedForwardArguments& a;
  int row, stop;  // slots of the block, and where those of its round end
  int b, h;
  int64_t head;
  SlotTable<kRows> queries;
  SlotTable<kKeys> keyTable;

  static constexpr int tableBytes(int countedRounds) {
    return 4 * (SlotTable<kRows>::ints(countedRounds) + SlotTable<kKeys>::ints(countedRounds));
  }

  template <int, int>
  __device__ __forceinline__ static SortedForward start(const SortedForwardArguments& a,
                                                        uint8_t* shared) {
    const Problem& p = a.problem;
    const Sorted& s = a.sorted;
    const uint32_t tiles = static_cast<uint32_t>(s.queries.slots + kRows - 1) / kRows;
    const int head = static_cast<int>(blockIdx.x / tiles), round = s.round * s.queries.slots;
    int32_t* const table = reinterpret_cast<int32_t*>(shared);
    SortedForward w{a,
                    round + static_cast<int>(blockIdx.x % tiles) * kRows,
                    round + s.queries.slots,
                    head / p.queryHeads,
                    head % p.queryHeads,
                    head,
                    {table},
                    {table + SlotTable<kRows>::ints(s.countedRounds())}};
    return w;
  }
  __device__ __forceinline__ bool surplus() const { return false; }

  template <class T>
  __device__ __forceinline__ GatheredRows<T> queryRows() const {
    return gathered(rowsOf<T>(a.problem.q, b, h, a.problem.dim), a.sorted, a.sorted.queries, head);
  }
  __device__ __forceinline__ int queryEnd() const { return stop; }
  template <class T>
  __device__ __forceinline__ GatheredRows<T> keyRows() const {
    return gathered(rowsOf<T>(a.problem.k, b, h / a.problem.group(), a.problem.dim), a.sorted,
                    a.sorted.keys, head);
  }
  template <class T>
  __device__ __forceinline__ GatheredRows<T> valueRows() const {
    return gathered(rowsOf<T>(a.problem.v, b, h / a.problem.group(), a.problem.valueDim), a.sorted,
                    a.sorted.keys, head);
  }
  template <int, int kThreads>
  __device__ __forceinline__ void loadQueries(int thread) const {
    queries.template load<kThreads, true>(a.sorted, a.sorted.queries, head, row, stop, thread,
                                          [](int) { return 0.0f; });
  }
  template <int, int kThreads>
  __device__ __forceinline__ void loadKeys(int tile, int end, int thread) const {
    if (a.problem.score.plain) return;
    keyTable.template load<kThreads, false>(a.sorted, a.sorted.keys, head, tile, end, thread,
                                            [](int) { return 0.0f; });
  }

  template <int>
  __device__ __forceinline__ Range keys() const {
    const SortedSide& side = a.sorted.queries;
    const int64_t at = head * side.slots * a.sorted.rounds;
    return {side.begin[at + row], side.end[at + min(row + kRows, stop) - 1]};
  }
  template <int>
  __device__ __forceinline__ int visible(int tile, int) const {
    return tile;
  }
  __device__ __forceinline__ bool meets(Range rows, Range tile) const {
    const int last = min(rows.end, stop) - 1;
    return rows.begin <= last && tile.begin < queries.end(last - row) &&
           tile.end > queries.begin(rows.begin - row);
  }
  __device__ __forceinline__ bool whole(Range rows, Range tile) const {
    return rows.end <= stop && queries.begin(rows.end - 1 - row) <= tile.begin &&
           queries.end(rows.begin - row) >= tile.end;
  }
  __device__ __forceinline__ Range seenBy(int query, int tile) const {
    return {queries.begin(query - row) - tile, queries.end(query - row) - tile};
  }
  template <class T, bool, class ForEach>
  __device__ __forceinline__ void add(int tile, ForEach&& forEach) const {
    addSortedTerms<false>(a.sorted, queries, keyTable, [&](auto&& f) {
      forEach([&](float& score, int query, int key) { f(score, query - row, key - tile); });
    });
  }

  __device__ __forceinline__ int positionOf(int query) const {
    const SortedSide& side = a.sorted.queries;
    return side.rowOf(head, side.slots * a.sorted.rounds, 0, query, stop);
  }
  __device__ __forceinline__ int64_t statistic(int position) const {
    return head * a.problem.queries + position;
  }
  // What came of position `position` before this round, and of both; by all lanes of a warp.
  __device__ __forceinline__ Merged merge(const RowState& state, int position, bool writes) const {
    const float now = state.logSumExp();
    const Merged merged =
        Merged::of(position < 0 ? kNegativeInfinity : a.lse[statistic(position)], now);
    __syncwarp();  // all lanes of a row have read
    if (position < 0 || !writes) return merged;
    a.lse[statistic(position)] = merged.lse;
    if (a.roundLse != nullptr) {
      a.roundLse[(head * a.sorted.rounds + a.sorted.round) * a.problem.queries + position] = now;
    }
    return merged;
  }

  template <bool kFenced, class T, int kDim, int kRowTiles>
  __device__ __forceinline__ void finish(WarpSoftmax<T, kDim, kRowTiles>& warp, int warpRow,
                                         T* staging) const {
    const Problem& p = a.problem;
    const int lane = threadIdx.x % 32;
    warp.finish();
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      float factor[2], before[2];
      int position[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const RowState& state = warp.state[m][i];
        position[i] = positionOf(warpRow + warp.rowOf(m, i));
        const Merged merged = merge(state, position[i], lane % 4 == 0);
        before[i] = merged.before;
        factor[i] = state.inverse() * (a.sum.data == nullptr ? 1.0f : merged.now);
      }
      if (a.sum.data == nullptr) {
        const auto target =
            gathered(rowsOf<T>(a.o, b, h, p.valueDim), a.sorted, a.sorted.queries, head);
        storeRows<kDim, kFenced>(warp.o.at[m], factor, staging + m * 16 * kDim, target,
                                 warpRow + m * 16, stop);
        continue;
      }
      const Rows<float> sum = rowsOf<float>(a.sum, b, h, p.valueDim);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        mergePairs<kDim>(warp.o.at[m], i, factor[i], before[i], sum, position[i]);
      }
    }
  }
  template <int kDim>
  __device__ __forceinline__ void finish32(RowState& state, const float (&o)[kDim / 16], int query,
                                           int x) const {
    const int position = positionOf(query);
    const Merged merged = merge(state, position, x == 0);
    if (position < 0) return;
    mergeRow32<kDim>(o, state.inverse() * merged.now, merged.before,
                     rowsOf<float>(a.sum, b, h, a.problem.valueDim), position, x);
  }
};

}  // namespace longspan::cuda
