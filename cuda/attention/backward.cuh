// What the kernels of the backward pass share.
//
// Both sides of the pass are one kernel. Rows of two operands stay with a block, rows of two others
// stream by; with X, Y the former and x, y the latter,
//
//   P = exp2(X x^T - lse),  dS = P o (Y y^T - delta)
//   side of keys:     X, Y = K, V;   x, y = Q, dO;   dK += dS x, dV += P y
//   side of queries:  X, Y = Q, dO;  x, y = K, V;    dQ += dS x
//
// so that every gradient is summed by one block in a fixed order: deterministic, without atomics,
// at the price of computing P and dS on both sides.
#pragma once

#include "cuda/attention/planted.cuh"
#include "cuda/attention/problem.cuh"
#include "cuda/attention/softmax.cuh"
#include "cuda/dispatch.cuh"

namespace longspan::cuda {

inline constexpr float kNothing = 1e30f;  // the log-sum-exp of a query without keys

struct BackwardArguments {
  Problem problem;
  Operand o, gradO, lse, gradLse;  // gradLse without data: zero
  Operand gradQ, gradK, gradV;
  bool hasGradO = false;  // false: zero, gradO is any other tensor
  float* delta;           // [B, Hq, N] sum of dO o O, minus the gradient of the log-sum-exp
  float* base;            // [B, Hq, N] log-sum-exp, base 2
};

// One warp per query.
__global__ void __launch_bounds__(128) attentionBackwardPrepare(BackwardArguments a, DType dtype) {
  const Problem& p = a.problem;
  const int lane = threadIdx.x % 32;
  const int64_t at = int64_t{blockIdx.x} * 4 + threadIdx.x / 32;
  if (at >= int64_t{p.batch} * p.queryHeads * p.queries) return;
  const int i = static_cast<int>(at % p.queries);
  const int h = static_cast<int>(at / p.queries % p.queryHeads);
  const int b = static_cast<int>(at / p.queries / p.queryHeads);
  float sum = 0;
  if (a.hasGradO) {
    dispatchNarrow(dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const Rows<T> o = rowsOf<T>(a.o, b, h, p.valueDim), g = rowsOf<T>(a.gradO, b, h, p.valueDim);
      for (int d = lane; d < p.valueDim; d += 32)
        sum = fmaf(toFloat(o.at(i, d)), toFloat(g.at(i, d)), sum);
    });
    sum = lanesSum<32>(sum);
  }
  if (lane != 0) return;
  if (i >= p.band(b).queries) {  // padding, which may hold anything
    a.delta[at] = 0;
    a.base[at] = kNothing;
    return;
  }
  if (a.gradLse.data != nullptr) sum -= rowsOf<float>(a.gradLse, b, h, 1).at(i, 0);
  const float lse = rowsOf<float>(a.lse, b, h, 1).at(i, 0);
  a.delta[at] = sum;
  a.base[at] = lse == kNegativeInfinity ? kNothing : lse * kLog2E;
}

// Where a block is and what it meets.
template <bool kKeySide, class Mask>
struct BackwardWalk {
  const BackwardArguments& a;
  Mask mask;
  int row = 0, b = 0, h = 0;  // first row that stays; key head, on the side of queries query head
  int begin = 0, end = 0, tiles = 0;  // what streams by, per head
  int heads = 1;                      // that stream by

  template <int kRows, int kColumns>
  __device__ __forceinline__ static BackwardWalk start(const BackwardArguments& a) {
    const Problem& p = a.problem;
    const int rows = kKeySide ? p.keys : p.queries, all = kKeySide ? p.keyHeads : p.queryHeads;
    const int count = (rows + kRows - 1) / kRows;
    // With a causal mask the first keys and the last queries have most to do: they go first.
    const int place = static_cast<int>(blockIdx.x % count);
    BackwardWalk w{a, p.band(static_cast<int>(blockIdx.x / count / all))};
    w.row = (kKeySide ? place : count - 1 - place) * kRows;
    w.h = static_cast<int>(blockIdx.x / count % all);
    w.b = static_cast<int>(blockIdx.x / count / all);
    w.heads = kKeySide ? p.group() : 1;
    const Range range =
        kKeySide ? w.mask.queriesOf(w.row, w.row + kRows) : w.mask.keysOf(w.row, w.row + kRows);
    w.begin = range.begin / kColumns * kColumns;
    w.end = range.end;
    w.tiles = range.empty() ? 0 : (range.end - w.begin + kColumns - 1) / kColumns;
    return w;
  }
  __device__ __forceinline__ int steps() const { return tiles * heads; }
  __device__ __forceinline__ int queryHead(int step) const {
    return kKeySide ? h * heads + step / tiles : h;
  }
  __device__ __forceinline__ int keyHead() const { return kKeySide ? h : h / a.problem.group(); }
  // Rows that stay, and that stream at this step.
  template <class T>
  __device__ __forceinline__ Rows<T> stayingFirst() const {
    return kKeySide ? rowsOf<T>(a.problem.k, b, keyHead(), a.problem.dim)
                    : rowsOf<T>(a.problem.q, b, h, a.problem.dim);
  }
  template <class T>
  __device__ __forceinline__ Rows<T> stayingSecond() const {
    return kKeySide ? rowsOf<T>(a.problem.v, b, keyHead(), a.problem.valueDim)
                    : rowsOf<T>(a.gradO, b, h, a.problem.valueDim);
  }
  template <class T>
  __device__ __forceinline__ Rows<T> streamingFirst(int step) const {
    return kKeySide ? rowsOf<T>(a.problem.q, b, queryHead(step), a.problem.dim)
                    : rowsOf<T>(a.problem.k, b, keyHead(), a.problem.dim);
  }
  template <class T>
  __device__ __forceinline__ Rows<T> streamingSecond(int step) const {
    return kKeySide ? rowsOf<T>(a.gradO, b, queryHead(step), a.problem.valueDim)
                    : rowsOf<T>(a.problem.v, b, keyHead(), a.problem.valueDim);
  }
  // Where rows end; those of an absent gradient all do at once.
  __device__ __forceinline__ int stayingEnd() const { return kKeySide ? mask.keys : mask.queries; }
  __device__ __forceinline__ int gradient(int last) const { return a.hasGradO ? last : 0; }

  __device__ __forceinline__ int tile(int step, int columns) const {
    return begin + step % tiles * columns;
  }
  // The statistics of query head `head`.
  __device__ __forceinline__ int64_t statistics(int head) const {
    return (int64_t{b} * a.problem.queryHeads + head) * a.problem.queries;
  }
  __device__ __forceinline__ bool sees(int staying, int streaming) const {
    return kKeySide ? mask.sees(streaming, staying) : mask.sees(staying, streaming);
  }
  __device__ __forceinline__ bool whole(Range staying, Range streaming) const {
    return kKeySide ? mask.whole(streaming.begin, streaming.end, staying)
                    : mask.whole(staying.begin, staying.end, streaming);
  }
  __device__ __forceinline__ bool meet(Range staying, Range streaming) const {
    const Range& queries = kKeySide ? streaming : staying;
    const Range& keys = kKeySide ? staying : streaming;
    const Range seen = mask.keysOf(queries.begin, queries.end);
    return seen.begin < keys.end && seen.end > keys.begin;
  }
};

}  // namespace longspan::cuda
