// Decoding with split keys: what its kernels share.
//
// The query heads that share a key head, times the new tokens, are the rows of one block, so that
// the cache is read once for all of them: row r is head g * group + r / T, token r % T. The keys
// that these rows see are split among blocks; a block leaves its maxima, sums and unnormalised
// outputs in the workspace and attentionDecodeMerge adds them up in the order of the splits.
//
// The number of splits follows from shapes and the GPU (so a captured graph stays valid), unless
// the call fixes it; what a split covers follows from the lengths on the device.
//
// Keys of a paged cache are looked up in a table of pages on the device. Where the CPU reports an
// error a kernel cannot: an entry whose length is beyond its table, or that has a key in a page
// that does not exist, gets NaN, and nothing is read there.
#pragma once

#include "cpp/ops/attention/attention_decode.h"
#include "cuda/attention/pairs.cuh"
#include "cuda/attention/planted.cuh"
#include "cuda/attention/problem.cuh"
#include "cuda/attention/softmax.cuh"
#include "cuda/dispatch.cuh"

namespace longspan::cuda {

// Pages of keys and values (cpp/ops/attention/problem.h), or none.
struct Pages {
  static constexpr int kUnread = -1, kLost = -2;  // instead of a page
  const int32_t* table = nullptr;
  int64_t entryStep = 0, pageStep = 0;
  int rows = 1, count = 0;  // rows of a page, pages

  Pages() = default;
  explicit Pages(const ops::AttentionDecode& p) {
    if (!p.paged()) return;
    table = p.pageTable.data<int32_t>();
    entryStep = p.pageTable.stride[0], pageStep = p.pageTable.stride[1];
    rows = static_cast<int>(p.k.shape[2]), count = static_cast<int>(p.k.shape[0]);
  }
  __device__ __forceinline__ bool any() const { return table != nullptr; }
  // The page of a key in `keys`.
  __device__ __forceinline__ int pageOf(int b, int key, Range keys) const {
    if (key < keys.begin || key >= keys.end) return kUnread;
    const int page = table[b * entryStep + key / rows * pageStep];
    return page >= 0 && page < count ? page : kLost;
  }
};

struct DecodeArguments {
  Problem problem;
  Operand o;
  float* lse;     // [B, Hq, T] or null
  float* states;  // per (item, split): outputs [rows][valueDim], then maxima [rows], sums [rows]
  int rowTiles, stateRows;
  int splits, parts, least;  // ops::DecodeSplits
  Pages pages;

  __device__ __forceinline__ int lanes() const { return problem.group() * problem.queries; }
  // Whether the length of entry b cannot be that of its pages.
  __device__ __forceinline__ bool overflows(int b) const {
    if (!pages.any()) return false;
    const int length = problem.keyLengths[b * problem.keyLengthStep];
    return length < 0 || length > problem.keys;
  }
};

// A block's place: grid is splits, then row tiles, then key heads, then batch entries.
struct DecodePlace {
  int split, rowTile, g, b;
  int64_t item;
  __device__ __forceinline__ explicit DecodePlace(const DecodeArguments& a) {
    split = blockIdx.x % a.splits;
    item = blockIdx.x / a.splits;
    rowTile = static_cast<int>(item % a.rowTiles);
    g = static_cast<int>(item / a.rowTiles % a.problem.keyHeads);
    b = static_cast<int>(item / a.rowTiles / a.problem.keyHeads);
  }
};

// The keys of one split.
template <class Mask>
__device__ __forceinline__ Range splitKeys(const Mask& mask, const DecodeArguments& a, int split) {
  constexpr int kSplitStep = ops::AttentionDecode::kSplitStep;
  const Range all = mask.keysOf(0, mask.queries);
  if (all.empty()) return {};
  const int begin = all.begin / kSplitStep * kSplitStep;
  const int steps = (all.end - begin + kSplitStep - 1) / kSplitStep;
  const int share = max((steps + a.parts - 1) / a.parts * kSplitStep, a.least);
  if (split > (all.end - begin) / share) return {};
  return {max(all.begin, begin + split * share), min(all.end, begin + (split + 1) * share)};
}

__device__ __forceinline__ float* stateOf(const DecodeArguments& a, int64_t item, int split) {
  return a.states + (item * a.splits + split) * a.stateRows * (a.problem.valueDim + 2);
}

// What a row has instead of a state when keys are lost: whatever it is merged with becomes NaN.
__device__ __forceinline__ void lose(RowState& state) {
  state.top = 0;
  state.sum = NAN;
}

// Where a row's result goes.
template <class T>
struct DecodeTarget {
  int h, token;
  __device__ __forceinline__ DecodeTarget(const Problem& p, int g, int r)
      : h(g * p.group() + r / p.queries), token(r % p.queries) {}
  __device__ __forceinline__ void store(const DecodeArguments& a, int b, int column,
                                        float x) const {
    rowsOf<T>(a.o, b, h, a.problem.valueDim).at(token, column) = fromFloat<T>(x);
  }
  __device__ __forceinline__ void storeLse(const DecodeArguments& a, int b, float x) const {
    if (a.lse == nullptr) return;
    a.lse[(int64_t{b} * a.problem.queryHeads + h) * a.problem.queries + token] = x;
  }
};

// The states of a block's warps, [kWarps] times outputs [kRows][kDim], then maxima and sums
// [kWarps][kRows], merged and left as the block's.
template <class T, int kDim, int kRows, int kWarps>
__device__ __forceinline__ void mergeWarps(const DecodeArguments& a, const DecodePlace& place,
                                           const float* outputs, const float* tops,
                                           const float* sums) {
  const Problem& p = a.problem;
  float* const state = stateOf(a, place.item, place.split);
  const int rows = min(kRows, a.lanes() - place.rowTile * kRows);
  for (int at = threadIdx.x; at < rows * kDim; at += 32 * kWarps) {
    const int r = at / kDim, column = at % kDim;
    RowState whole;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) whole.top = fmaxf(whole.top, tops[w * kRows + r]);
    float o = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float factor = ptx::exp2Approx(tops[w * kRows + r] - whole.base());
      whole.sum = fmaf(sums[w * kRows + r], factor, whole.sum);
      o = fmaf(outputs[(w * kRows + r) * kDim + column], factor, o);
    }
    if (a.splits > 1) {
      if (column < p.valueDim) state[r * p.valueDim + column] = o;
      if (column == 0) {
        state[a.stateRows * p.valueDim + r] = whole.top;
        state[a.stateRows * (p.valueDim + 1) + r] = whole.sum;
      }
    } else {
      const DecodeTarget<T> target(p, place.g, place.rowTile * kRows + r);
      const float factor = p.finish(whole, p.entry(place.b), target.h, target.token);
      if (column < p.valueDim) target.store(a, place.b, column, o * factor);
      if (column == 0) target.storeLse(a, place.b, whole.logSumExp());
    }
  }
}

// One warp per row. A split that saw no key has maximum -inf and weighs nothing; its outputs are
// not read.
__global__ void __launch_bounds__(128)
    attentionDecodeMerge(DecodeArguments a, DType dtype, int tileRows) {
  const Problem& p = a.problem;
  const int lane = threadIdx.x % 32, lanes = a.lanes();
  const int64_t row = int64_t{blockIdx.x} * 4 + threadIdx.x / 32;
  if (row >= int64_t{p.batch} * p.keyHeads * lanes) return;
  const int r = static_cast<int>(row % lanes);
  const int g = static_cast<int>(row / lanes % p.keyHeads);
  const int b = static_cast<int>(row / lanes / p.keyHeads);
  const int64_t item = (int64_t{b} * p.keyHeads + g) * a.rowTiles + r / tileRows;
  const int inTile = r % tileRows;

  RowState whole;
  for (int s = lane; s < a.splits; s += 32) {
    whole.top = fmaxf(whole.top, stateOf(a, item, s)[a.stateRows * p.valueDim + inTile]);
  }
  whole.top = lanesMax<32>(whole.top);
  constexpr int kColumns = 8;  // 256 / 32
  float o[kColumns] = {};
  for (int s = 0; s < a.splits; ++s) {
    const float* state = stateOf(a, item, s);
    const float top = state[a.stateRows * p.valueDim + inTile];
    if (top == kNegativeInfinity) continue;
    const float factor = ptx::exp2Approx(top - whole.base());
    whole.sum = fmaf(state[a.stateRows * (p.valueDim + 1) + inTile], factor, whole.sum);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int column = lane + 32 * i;
      if (column < p.valueDim) o[i] = fmaf(state[inTile * p.valueDim + column], factor, o[i]);
    }
  }
  dispatchNarrow(dtype, [&](auto tag) {
    const DecodeTarget<typename decltype(tag)::type> target(p, g, r);
    const float factor = p.finish(whole, p.entry(b), target.h, target.token);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int column = lane + 32 * i;
      if (column < p.valueDim) target.store(a, b, column, o[i] * factor);
    }
    if (lane == 0) target.storeLse(a, b, whole.logSumExp());
  });
}

}  // namespace longspan::cuda
