// Which keys a query sees: causal, sliding-window and prefix masks with padding, the same as on the
// CPU (cpp/cpu/attention/band.h). The mask of a kernel is a policy with this interface; tiles
// outside keysOf() are skipped, and only tiles that are not whole() are compared key by key.
#pragma once

#include "cuda/portable.cuh"

namespace longspan::cuda {

// Larger than every position, small enough for 32-bit sums.
inline constexpr int kUnbounded = 1 << 30;

struct Range {
  int begin = 0, end = 0;
  __device__ __forceinline__ bool empty() const { return begin >= end; }
};

__device__ __forceinline__ int clampTo(int x, int low, int high) { return min(max(x, low), high); }

// One sequence: query i stands at key i + offset(), so that the last query meets the last key, and
// sees `left` keys before it, `right` after it and, on that side, the first `prefix` ones.
struct Band {
  int queries, keys;  // valid lengths
  int left, right;
  int prefix;

  // The same mask with keys counted from `key`. Bounds that depend on the tile of a loop are not
  // kept in registers across it.
  __device__ __forceinline__ Band from(int key) const {
    return {queries, keys - key, left, right, prefix - key};
  }
  __device__ __forceinline__ int offset() const { return keys - queries; }
  __device__ __forceinline__ int first(int i) const {
    return clampTo(i + offset() - left, 0, keys);
  }
  __device__ __forceinline__ int end(int i) const {
    return clampTo(i + offset() + right + 1, prefix, keys);
  }
  // Keys seen by any of the queries [begin, stop); both bounds grow with the query.
  __device__ __forceinline__ Range keysOf(int begin, int stop) const {
    stop = min(stop, queries);
    if (begin >= stop) return {};
    return {first(begin), end(stop - 1)};
  }
  // Queries that see any of the keys [begin, stop).
  __device__ __forceinline__ Range queriesOf(int begin, int stop) const {
    stop = min(stop, keys);
    if (begin >= stop) return {};
    return {begin < prefix ? 0 : clampTo(begin - offset() - right, 0, queries),
            clampTo(stop - 1 - offset() + left + 1, 0, queries)};
  }
  // Whether every row of [begin, stop) is a query that sees every key of `tile`.
  __device__ __forceinline__ bool whole(int begin, int stop, Range tile) const {
    return stop <= queries && first(stop - 1) <= tile.begin && end(begin) >= tile.end;
  }
  __device__ __forceinline__ bool sees(int query, int key) const {
    return query < queries && key >= first(query) && key < end(query);
  }
};

// A batch entry, or one of the sequences packed into it end to end.
struct Sequence {
  Band band;
  int index;
};

}  // namespace longspan::cuda
