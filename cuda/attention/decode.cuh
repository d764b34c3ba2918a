// Decoding with split keys: what its kernels share.
//
// The query heads that share a key head, times the new tokens, are the rows of one block, so that
// the cache is read once for all of them: row r is head g * group + r / T, token r % T. The keys
// that these rows see are split among blocks; a block leaves its maxima, sums and unnormalised
// outputs in the workspace and attentionDecodeMerge adds them up in the order of the splits.
//
// The number of splits follows from shapes and the GPU (so a captured graph stays valid); what a
// split covers follows from the lengths on the device.
#pragma once

#include "cuda/attention/planted.cuh"
#include "cuda/attention/problem.cuh"
#include "cuda/attention/softmax.cuh"
#include "cuda/dispatch.cuh"

namespace longspan::cuda {

inline constexpr int kMostSplits = 128;
inline constexpr int kLeastSplitKeys = 256;
inline constexpr int kSplitStep = 64;  // splits begin at multiples of it

struct DecodeArguments {
  Problem problem;
  Operand o;
  float* lse;     // [B, Hq, T] or null
  float* states;  // per (item, split): outputs [rows][valueDim], then maxima [rows], sums [rows]
  int rowTiles, splits;

  __device__ __forceinline__ int lanes() const { return problem.group() * problem.queries; }
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
__device__ __forceinline__ Range splitKeys(const Mask& mask, int splits, int split) {
  const Range all = mask.keysOf(0, mask.queries);
  if (all.empty()) return {};
  const int begin = all.begin / kSplitStep * kSplitStep;
  const int steps = (all.end - begin + kSplitStep - 1) / kSplitStep;
  const int share = max((steps + splits - 1) / splits * kSplitStep, kLeastSplitKeys);
  if (split > (all.end - begin) / share) return {};
  return {max(all.begin, begin + split * share), min(all.end, begin + (split + 1) * share)};
}

// `rows` of a tile, which have states even where they do not exist.
__device__ __forceinline__ float* stateOf(const DecodeArguments& a, int rows, int64_t item,
                                          int split) {
  return a.states + (item * a.splits + split) * rows * (a.problem.valueDim + 2);
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
  float* const state = stateOf(a, kRows, place.item, place.split);
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
        state[kRows * p.valueDim + r] = whole.top;
        state[kRows * (p.valueDim + 1) + r] = whole.sum;
      }
    } else {
      const DecodeTarget<T> target(p, place.g, place.rowTile * kRows + r);
      if (column < p.valueDim) target.store(a, place.b, column, o * whole.inverse());
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
    whole.top = fmaxf(whole.top, stateOf(a, tileRows, item, s)[tileRows * p.valueDim + inTile]);
  }
  whole.top = lanesMax<32>(whole.top);
  constexpr int kColumns = 8;  // 256 / 32
  float o[kColumns] = {};
  for (int s = 0; s < a.splits; ++s) {
    const float* state = stateOf(a, tileRows, item, s);
    const float top = state[tileRows * p.valueDim + inTile];
    if (top == kNegativeInfinity) continue;
    const float factor = ptx::exp2Approx(top - whole.base());
    whole.sum = fmaf(state[tileRows * (p.valueDim + 1) + inTile], factor, whole.sum);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int column = lane + 32 * i;
      if (column < p.valueDim) o[i] = fmaf(state[inTile * p.valueDim + column], factor, o[i]);
    }
  }
  dispatchNarrow(dtype, [&](auto tag) {
    const DecodeTarget<typename decltype(tag)::type> target(p, g, r);
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const int column = lane + 32 * i;
      if (column < p.valueDim) target.store(a, b, column, o[i] * whole.inverse());
    }
    if (lane == 0) target.storeLse(a, b, whole.logSumExp());
  });
}

}  // namespace longspan::cuda
