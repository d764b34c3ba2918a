// What a call adds to scores and takes from weights, pair by pair: bias, ALiBi, segments, block
// masks, dropout (cpp/cpu/attention/terms.h). Rare, so that kernels ask once per tile, behind
// branches that all threads take alike (pairs.cuh).
#pragma once

#include "cpp/ops/attention/problem.h"
#include "cpp/ops/dense/random.h"
#include "cuda/attention/band.cuh"
#include "cuda/attention/softmax.cuh"

namespace longspan::cuda {

// Segments, [B, tokens].
struct Ids {
  const int32_t* data = nullptr;
  int64_t batch = 0, token = 0;
  int tokens = 0;

  Ids() = default;
  explicit Ids(const TensorView& t) {
    if (!t.defined()) return;
    data = t.data<int32_t>();
    batch = t.stride[0], token = t.stride[1];
    tokens = static_cast<int>(t.shape[1]);
  }
  // Rows beyond the last have its id: what they weigh is masked anyway.
  __device__ __forceinline__ int at(int b, int i) const {
    return data[b * batch + min(i, tokens - 1) * token];
  }
};

// A block-sparse mask (cpp/cpu/attention/mask.h): of every row of blocks the columns that it sees.
struct BlockMask {
  static constexpr int kWhole = -1, kHidden = -2;
  const int32_t *rows = nullptr, *entries = nullptr;  // entries: pairs of column and slot
  const uint8_t* bits = nullptr;
  int shift = 0;  // queries and keys of a block: 2^shift
  int64_t batchStep = 0, headStep = 0;

  BlockMask() = default;
  explicit BlockMask(const ops::AttentionProblem& p) {
    if (!p.maskRows.defined()) return;
    rows = p.maskRows.data<int32_t>();
    entries = p.maskRowBlocks.data<int32_t>();
    if (p.maskBits.defined()) bits = p.maskBits.data<uint8_t>();
    while (int64_t{1} << shift < p.maskBlock) ++shift;
    const auto& shape = p.maskRows.shape;
    batchStep = shape[0] == 1 ? 0 : shape[1] * shape[2];
    headStep = shape[1] == 1 ? 0 : shape[2];
  }

  // The number of the bits of the pair's block, or what it is without any.
  __device__ __forceinline__ int find(int b, int h, int i, int j) const {
    const int32_t* const at = rows + b * batchStep + h * headStep + (i >> shift);
    // The last entry whose column is not after the pair's.
    int first = at[0], count = at[1] - first;
    if (count == 0) return kHidden;
    while (count > 1) {
      const int half = count / 2;
      if (entries[2 * (first + half)] <= j >> shift) first += half;
      count -= half;
    }
    return entries[2 * first] == j >> shift ? entries[2 * first + 1] : kHidden;
  }
  __device__ __forceinline__ bool shows(int slot, int i, int j) const {
    if (slot < 0) return slot == kWhole;
    const int inside = (1 << shift) - 1;
    const int64_t bit = (int64_t{slot} << 2 * shift) + ((i & inside) << shift) + (j & inside);
    return (bits[bit / 8] >> (bit % 8) & 1) != 0;
  }
  // Whether no block is seen that queries [begin, end) share with keys.
  __device__ __forceinline__ bool hides(int b, int h, Range queries, Range keys) const {
    const int step = 1 << shift;
    for (int i = queries.begin & -step; i < queries.end; i += step) {
      for (int j = keys.begin & -step; j < keys.end; j += step) {
        if (find(b, h, i, j) != kHidden) return false;
      }
    }
    return true;
  }
};

struct Terms {
  bool any = false;
  const void* bias = nullptr;
  bool wideBias = false;  // f32; else of the operands' type
  int64_t biasBatch = 0, biasHead = 0, biasQuery = 0, biasKey = 0;
  const float* slopes = nullptr;  // ALiBi
  int64_t slopeBatch = 0, slopeHead = 0;
  Ids querySegments, keySegments;
  BlockMask mask;
  const int32_t* dropoutState = nullptr;
  uint32_t threshold = 0;
  float grown = 1;  // what dropout multiplies the kept weights with
  const float* sinks = nullptr;
  int64_t sinkStep = 0;

  Terms() = default;
  explicit Terms(const ops::AttentionProblem& p)
      : any(p.hasTerms()), querySegments(p.querySegments), keySegments(p.keySegments), mask(p) {
    if (p.bias.defined()) {
      bias = p.bias.base + p.bias.offset * static_cast<int64_t>(sizeOf(p.bias.dtype));
      wideBias = p.bias.dtype == DType::f32;
      biasBatch = p.bias.stride[0], biasHead = p.bias.stride[1];
      biasQuery = p.bias.stride[2], biasKey = p.bias.stride[3];
    }
    if (p.alibiSlopes.defined()) {
      slopes = p.alibiSlopes.data<float>();
      slopeBatch = p.alibiSlopes.stride[0], slopeHead = p.alibiSlopes.stride[1];
    }
    if (p.sinks.defined()) {
      sinks = p.sinks.data<float>();
      sinkStep = p.sinks.stride[0];
    }
    if (p.dropout > 0) {
      dropoutState = p.dropoutState.data<int32_t>();
      threshold = ops::probabilityThreshold(p.dropout);
      grown = static_cast<float>(1 / (1 - p.dropout));
    }
  }

  __device__ __forceinline__ bool drops() const { return dropoutState != nullptr; }
  // The sink of a head, base 2.
  __device__ __forceinline__ float sink(int h) const { return sinks[h * sinkStep] * kLog2E; }
};

// The part of `range` outside of which no row has an id between those of the `count` rows of the
// other side that begin at `begin`: exact where ids are sorted, as those of packed documents are.
// By all lanes of a warp; every warp of a block finds the same. `range` counts from `origin`.
__device__ __forceinline__ Range joined(const Ids& own, int b, int begin, int count,
                                        const Ids& other, int origin, Range range) {
  constexpr uint32_t kSign = 0x80000000u, kAll = 0xffffffffu;
  const int lane = threadIdx.x % 32;
  const auto ordered = [&](const Ids& ids, int i) {
    return static_cast<uint32_t>(ids.at(b, i)) ^ kSign;
  };
  uint32_t low = kAll, high = 0;
  for (int i = lane; i < count; i += 32) {
    low = min(low, ordered(own, begin + i)), high = max(high, ordered(own, begin + i));
  }
  low = __reduce_min_sync(kAll, low), high = __reduce_max_sync(kAll, high);
  uint32_t first = kAll, last = 0;
  for (int i = range.begin + lane; i < range.end; i += 32) {
    const uint32_t id = ordered(other, origin + i);
    if (id < low || id > high) continue;
    first = min(first, static_cast<uint32_t>(i)), last = static_cast<uint32_t>(i) + 1;
  }
  first = __reduce_min_sync(kAll, first), last = __reduce_max_sync(kAll, last);
  if (first >= last) return {};
  return {static_cast<int>(first), static_cast<int>(last)};
}

}  // namespace longspan::cuda
