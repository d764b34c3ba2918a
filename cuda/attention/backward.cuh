// What the kernels of the backward pass share.
//
// Both sides of the pass are one kernel. Rows of two operands stay with a block, rows of two others
// stream by; with X, Y the former and x, y the latter,
//
//   P = exp2(X x^T - lse),  dS = P o (Z o Y y^T - delta)
//   side of keys:     X, Y = K, V;   x, y = Q, dO;   dK += dS x, dV += (P o Z) y
//   side of queries:  X, Y = Q, dO;  x, y = K, V;    dQ += dS x
//
// where Z is what dropout keeps, grown by 1 / (1 - p), and else all 1,
//
// so that every gradient is summed by one block in a fixed order: deterministic, without atomics,
// at the price of computing P and dS on both sides.
#pragma once

#include "cpp/ops/attention/attention_backward.h"
#include "cuda/attention/pairs.cuh"
#include "cuda/attention/planted.cuh"
#include "cuda/attention/problem.cuh"
#include "cuda/attention/softmax.cuh"
#include "cuda/attention/tile16.cuh"
#include "cuda/attention/tile32.cuh"

namespace longspan::cuda {

inline constexpr float kNothing = 1e30f;  // the log-sum-exp of a query without keys

struct BackwardArguments {
  Problem problem;
  Operand o, gradO, lse, gradLse;  // gradLse without data: zero
  Operand gradQ, gradK, gradV;
  bool hasGradO = false;  // false: zero, gradO is any other tensor
  float* gradSinks;       // [Hq] or null
  float* delta;           // [B, Hq, N] sum of dO o O, minus the gradient of the log-sum-exp
  float* base;            // [B, Hq, N] log-sum-exp, base 2
};

// A [B, H, N] tensor as an operand of one column.
inline Operand statisticOf(const TensorView& t) {
  TensorView view = t;
  view.rank = 4;
  view.shape[3] = view.stride[3] = 1;
  return operandOf(view);
}

inline int64_t rowsOfQueries(const ops::AttentionProblem& p) {
  return p.batch() * p.queryHeads() * p.queries();
}

// Floats of workspace that every backward pass begins with: delta and base.
inline int64_t statisticsOf(const ops::AttentionProblem& p) { return 2 * rowsOfQueries(p); }

// What all backward passes are given; gradients are the caller's.
inline BackwardArguments backwardArguments(const ops::AttentionGradientProblem& p,
                                           std::byte* workspace) {
  BackwardArguments a{};
  a.problem = problemOf(p);
  a.o = operandOf(p.headMajor(p.o));
  a.hasGradO = p.gradO.defined();
  a.gradO = a.hasGradO ? operandOf(p.headMajor(p.gradO)) : a.o;
  a.lse = statisticOf(p.lse);
  if (p.gradLse.defined()) a.gradLse = statisticOf(p.gradLse);
  a.delta = reinterpret_cast<float*>(workspace);
  a.base = a.delta + rowsOfQueries(p);
  return a;
}

// Fills delta and base, and gradSinks where it is not null.
Status backwardStatistics(const BackwardArguments& a, DType dtype, cudaStream_t stream);

// The gradients by the kernels for sm_90a, for 16-bit operands. Those that bulk copies cannot read
// are first copied into `copies`, of so many bytes.
size_t copiedBytes90(const ops::AttentionGradientProblem& p);
Status attentionBackward90(BackwardArguments a, const ops::AttentionGradientProblem& p,
                           std::byte* copies, Context& context);

// Where a block is and what it meets. Kernels walk by this interface; SortedBackward of cuda/sparse
// has the same for rows in another order.
template <bool kKeySide_, class Mask>
struct BackwardWalk {
  using Arguments = BackwardArguments;
  static constexpr bool kKeySide = kKeySide_, kDrops = true;
  const BackwardArguments& a;
  Sequence sequence;
  Mask mask;
  int row, b, h;  // first row that stays; key head, on the side of queries query head
  int begin = 0, end = 0, tiles = 0;  // what streams by, per head
  int heads = 1;                      // that stream by
  bool surplus = false;               // no row stays

  template <int kRows, int kColumns>
  __device__ __forceinline__ static BackwardWalk start(const BackwardArguments& a,
                                                       uint8_t* = nullptr) {
    const Problem& p = a.problem;
    const TilePlace place = p.tile<kKeySide, kRows>();
    const Sequence& s = place.sequence;
    BackwardWalk w{a, s, s.band, place.row, p.entryOf(s), place.h};
    w.surplus = place.surplus;
    w.heads = kKeySide ? p.group() : 1;
    const Range range =
        kKeySide ? p.queriesOf(s, w.mask, w.row, kRows) : p.keysOf(s, w.mask, w.row, kRows);
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

  template <class T>
  __device__ __forceinline__ Rows<T> queriesOf(const Operand& t, int head, int width) const {
    return rowsOf<T>(t, b, head, width).from(a.problem.queryBegin(sequence));
  }
  template <class T>
  __device__ __forceinline__ Rows<T> keysOf(const Operand& t, int width) const {
    return rowsOf<T>(t, b, keyHead(), width).from(a.problem.keyBegin(sequence));
  }
  // Rows that stay, that stream at this step, and where the gradients of those that stay go.
  template <class T>
  __device__ __forceinline__ Rows<T> stayingFirst() const {
    return kKeySide ? keysOf<T>(a.problem.k, a.problem.dim)
                    : queriesOf<T>(a.problem.q, h, a.problem.dim);
  }
  template <class T>
  __device__ __forceinline__ Rows<T> stayingSecond() const {
    return kKeySide ? keysOf<T>(a.problem.v, a.problem.valueDim)
                    : queriesOf<T>(a.gradO, h, a.problem.valueDim);
  }
  template <class T>
  __device__ __forceinline__ Rows<T> streamingFirst(int step) const {
    return kKeySide ? queriesOf<T>(a.problem.q, queryHead(step), a.problem.dim)
                    : keysOf<T>(a.problem.k, a.problem.dim);
  }
  template <class T>
  __device__ __forceinline__ Rows<T> streamingSecond(int step) const {
    return kKeySide ? queriesOf<T>(a.gradO, queryHead(step), a.problem.valueDim)
                    : keysOf<T>(a.problem.v, a.problem.valueDim);
  }
  template <class T>
  __device__ __forceinline__ Rows<T> gradFirst() const {
    return kKeySide ? keysOf<T>(a.gradK, a.problem.dim) : queriesOf<T>(a.gradQ, h, a.problem.dim);
  }
  template <class T>
  __device__ __forceinline__ Rows<T> gradSecond() const {
    return keysOf<T>(a.gradV, a.problem.valueDim);
  }
  // Where rows end; those of an absent gradient all do at once.
  __device__ __forceinline__ int stayingEnd() const { return kKeySide ? mask.keys : mask.queries; }
  __device__ __forceinline__ int streamingEnd() const {
    return kKeySide ? mask.queries : mask.keys;
  }
  __device__ __forceinline__ int gradient(int last) const { return a.hasGradO ? last : 0; }
  __device__ __forceinline__ int rows() const { return a.problem.rowCount<kKeySide>(sequence); }

  __device__ __forceinline__ int tile(int step, int columns) const {
    return begin + step % tiles * columns;
  }
  // The statistics of query head `head`.
  __device__ __forceinline__ int64_t statistics(int head) const {
    return (int64_t{b} * a.problem.queryHeads + head) * a.problem.queries +
           a.problem.queryBegin(sequence);
  }
  // What this step brings beside rows: of streaming queries base and delta [kColumns].
  template <class Tile>
  __device__ __forceinline__ void loadStatistics(float* to, int step, int thread) const {
    constexpr int kColumns = Tile::kColumns;
    if constexpr (kKeySide) {
      const int64_t from = statistics(queryHead(step));
      for (int c = thread; c < 2 * kColumns; c += Tile::kThreads) {
        const int query = tile(step, kColumns) + c % kColumns;
        const bool valid = query < mask.queries;
        const float* source = c < kColumns ? a.base : a.delta;
        ptx::copyAsync<4>(to + c, source + from + (valid ? query : 0), valid);
      }
    }
  }
  // Base and delta of a query that stays, if it is one.
  __device__ __forceinline__ void loadStatistics(int query, float& base, float& delta) const {
    if (query >= mask.queries) return;
    base = a.base[statistics(h) + query];
    delta = a.delta[statistics(h) + query];
  }
  __device__ __forceinline__ bool sees(int staying, int streaming) const {
    return kKeySide ? mask.sees(streaming, staying) : mask.sees(staying, streaming);
  }
  // What streams by and a row that stays sees.
  __device__ __forceinline__ Range seenBy(int staying) const {
    return kKeySide ? mask.queriesOf(staying, staying + 1) : mask.keysOf(staying, staying + 1);
  }
  // Whether the tensor goes on behind the sequence's keys, or queries.
  __device__ __forceinline__ bool overrun(bool keys) const {
    const Problem& p = a.problem;
    return keys ? p.keyBegin(sequence) + mask.keys < p.keys
                : p.queryBegin(sequence) + mask.queries < p.queries;
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
  // Whether a block mask hides all of them at this step.
  __device__ __forceinline__ bool hidden(int step, Range staying, Range streaming) const {
    return a.problem.hides(b, queryHead(step), kKeySide ? streaming : staying,
                           kKeySide ? staying : streaming);
  }
  // addTerms() for pairs (staying, streaming) of this step.
  template <class T, int kStages = 1, class ForEach>
  __device__ __forceinline__ void add(int step, ForEach&& forEach) const {
    addTerms<T>(a.problem, sequence, queryHead(step), [&](auto&& f) {
      forEach([&](float& score, int staying, int streaming) {
        kKeySide ? f(score, streaming, staying) : f(score, staying, streaming);
      });
    });
  }

  // The gradients of the 16 rows from `row` on that a warp holds, through `staging` of its own.
  template <int kDim, bool kFenced, class T>
  __device__ __forceinline__ void storeFirst(const float (&x)[kDim / 8][4], T* staging,
                                             int row_) const {
    const float scale[2] = {a.problem.score.scale, a.problem.score.scale};
    storeRows<kDim, kFenced>(x, scale, staging, gradFirst<T>(), row_, rows());
  }
  template <int kDim, class T>
  __device__ __forceinline__ void storeSecond(const float (&x)[kDim / 8][4], T* staging,
                                              int row_) const {
    const float grown[2] = {a.problem.terms.grown, a.problem.terms.grown};
    storeRows<kDim>(x, grown, staging, gradSecond<T>(), row_, rows());
  }
  // Those of one row, of a thread of tile32.cuh.
  template <int kDim>
  __device__ __forceinline__ void storeFirst32(const float (&x)[kDim / 16], int row_,
                                               int thread) const {
    if (row_ < rows()) {
      storeRow32<kDim>(x, a.problem.score.scale, gradFirst<float>(), row_, thread);
    }
  }
  template <int kDim>
  __device__ __forceinline__ void storeSecond32(const float (&x)[kDim / 16], int row_,
                                                int thread) const {
    if (row_ < rows()) storeRow32<kDim>(x, 1.0f, gradSecond<float>(), row_, thread);
  }
};

}  // namespace longspan::cuda
