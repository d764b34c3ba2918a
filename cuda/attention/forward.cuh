// What forward kernels share: their arguments, where a block is and what it meets, and how a warp
// ends its queries.
#pragma once

#include "cuda/attention/pairs.cuh"
#include "cuda/attention/tile32.cuh"
#include "cuda/attention/warp_attention.cuh"

namespace longspan::cuda {

struct ForwardArguments {
  Problem problem;
  Operand o;
  float* lse;  // [B, Hq, N] or null
};

// Divides and stores the outputs of the 16 kRowTiles queries from warpRow on, and their
// log-sum-exps, through `staging` [16 kRowTiles][kDim] of the warp's own.
template <bool kFenced, class T, int kDim, int kRowTiles>
__device__ __forceinline__ void finishRows(const ForwardArguments& a, const Sequence& sequence,
                                           int h, int b, WarpSoftmax<T, kDim, kRowTiles>& warp,
                                           int warpRow, T* staging) {
  const Problem& p = a.problem;
  const int rows = p.rowCount<false>(sequence);
  const Rows<T> o = rowsOf<T>(a.o, b, h, p.valueDim).from(p.queryBegin(sequence));
  warp.finish();
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    float factor[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      RowState& state = warp.state[m][i];
      const int at = warpRow + warp.rowOf(m, i);
      factor[i] = p.finish(state, sequence, h, at);
      if (a.lse != nullptr && threadIdx.x % 4 == 0 && at < rows) {
        a.lse[(int64_t{b} * p.queryHeads + h) * p.queries + p.queryBegin(sequence) + at] =
            state.logSumExp();
      }
    }
    storeRows<kDim, kFenced>(warp.o.at[m], factor, staging + m * 16 * kDim, o, warpRow + m * 16,
                             rows);
  }
}

// The queries [row, row + kRows) of a sequence and head, and the keys that they see. Kernels walk
// by this interface; SortedForward of cuda/sparse has the same for rows in another order.
template <class Mask>
struct ForwardWalk {
  using Arguments = ForwardArguments;
  static constexpr bool kDrops = true;
  const ForwardArguments& a;
  TilePlace place;
  Mask mask;
  int row, rows, b;

  template <int kRows, int kKeys>
  __device__ __forceinline__ static ForwardWalk start(const ForwardArguments& a, uint8_t*) {
    const Problem& p = a.problem;
    const TilePlace place = p.tile<false, kRows>();
    const Sequence& s = place.sequence;
    return {a, place, s.band, place.row, kRows, p.entryOf(s)};
  }
  __device__ __forceinline__ bool surplus() const { return place.surplus; }

  template <class T>
  __device__ __forceinline__ Rows<T> queryRows() const {
    const Problem& p = a.problem;
    return rowsOf<T>(p.q, b, place.h, p.dim).from(p.queryBegin(place.sequence));
  }
  __device__ __forceinline__ int queryEnd() const { return mask.queries; }
  template <class T>
  __device__ __forceinline__ Rows<T> keyRows() const {
    const Problem& p = a.problem;
    return rowsOf<T>(p.k, b, place.h / p.group(), p.dim).from(p.keyBegin(place.sequence));
  }
  template <class T>
  __device__ __forceinline__ Rows<T> valueRows() const {
    const Problem& p = a.problem;
    return rowsOf<T>(p.v, b, place.h / p.group(), p.valueDim).from(p.keyBegin(place.sequence));
  }
  // What else the queries and a tile of keys need in shared memory.
  template <int kRows, int kThreads>
  __device__ __forceinline__ void loadQueries(int) const {}
  template <int kKeys, int kThreads>
  __device__ __forceinline__ void loadKeys(int, int, int) const {}

  // Keys that any of the queries sees, from the first of a tile on.
  template <int kKeys>
  __device__ __forceinline__ Range keys() const {
    const Range range = a.problem.keysOf(place.sequence, mask, row, rows);
    return {range.begin / kKeys * kKeys, range.end};
  }
  // The first tile of keys from `tile` on and before `end` that a block mask shows.
  template <int kKeys>
  __device__ __forceinline__ int visible(int tile, int end) const {
    return a.problem.visible<kKeys>(b, place.h, {row, row + rows}, tile, end);
  }
  __device__ __forceinline__ bool meets(Range queries, Range tile) const {
    const Range seen = mask.keysOf(queries.begin, queries.end);
    return tile.begin < seen.end && tile.end > seen.begin;
  }
  __device__ __forceinline__ bool whole(Range queries, Range tile) const {
    return mask.whole(queries.begin, queries.end, tile);
  }
  // The keys, counted from `tile`, that a query sees.
  __device__ __forceinline__ Range seenBy(int query, int tile) const {
    return mask.from(tile).keysOf(query, query + 1);
  }
  // forEach(f) calls f(score, query, key).
  template <class T, bool kMasks, class ForEach>
  __device__ __forceinline__ void add(int, ForEach&& forEach) const {
    addTerms<T, kMasks>(a.problem, place.sequence, place.h, forEach);
  }

  template <bool kFenced, class T, int kDim, int kRowTiles>
  __device__ __forceinline__ void finish(WarpSoftmax<T, kDim, kRowTiles>& warp, int warpRow,
                                         T* staging) const {
    finishRows<kFenced>(a, place.sequence, place.h, b, warp, warpRow, staging);
  }
  // Query `query`, whose outputs are those of a thread of tile32.cuh.
  template <int kDim>
  __device__ __forceinline__ void finish32(RowState& state, const float (&o)[kDim / 16], int query,
                                           int x) const {
    const Problem& p = a.problem;
    const Sequence& s = place.sequence;
    if (query >= p.rowCount<false>(s)) return;
    const Rows<float> target = rowsOf<float>(a.o, b, place.h, p.valueDim).from(p.queryBegin(s));
    storeRow32<kDim>(o, p.finish(state, s, place.h, query), target, query, x);
    if (a.lse != nullptr && x == 0) {
      a.lse[(int64_t{b} * p.queryHeads + place.h) * p.queries + p.queryBegin(s) + query] =
          state.logSumExp();
    }
  }
};

}  // namespace longspan::cuda
