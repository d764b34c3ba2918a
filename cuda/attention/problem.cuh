// What every attention kernel is given: addresses, strides, lengths, mask and score as plain data,
// made from the operator's parameters on the host.
#pragma once

#include <algorithm>
#include <utility>

#include "cpp/ops/attention/problem.h"
#include "cuda/attention/band.cuh"
#include "cuda/attention/score.cuh"
#include "cuda/attention/terms.cuh"
#include "cuda/context.h"

namespace longspan::cuda {

// Kernels whose code for sm_80 and sm_90a just fits into the registers need a few more on later
// GPUs, and take a leaner form there instead of spilling.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
inline constexpr bool kLeanCode = true;
#else
inline constexpr bool kLeanCode = false;
#endif

// A tensor as [B, H, tokens, dim], strides in elements.
struct Operand {
  void* data = nullptr;
  int64_t batch = 0, head = 0, token = 0, step = 1;
  bool aligned = false;  // rows can be moved in pieces of 16 bytes
};

// The token rows of one head. Tiles are copied from rows and to rows of this interface:
// GatheredRows of cuda/sparse finds each through a permutation.
template <class T>
struct Rows {
  T* data;
  int64_t stride, step;
  int width;  // elements of a row
  bool aligned;

  __device__ __forceinline__ Rows from(int row) const {
    return {data + row * stride, stride, step, width, aligned};
  }
  __device__ __forceinline__ T& at(int row, int column) const {
    return data[row * stride + column * step];
  }
  __device__ __forceinline__ bool holds(int row, int end) const { return row < end; }
  // Row `row`, or null where rows end before it.
  __device__ __forceinline__ T* find(int row, int end) const {
    return row < end ? data + row * stride : nullptr;
  }
  // Row first + i kStep from `column` on, asked for once for every i, in ascending order; not to be
  // read where rows end before it.
  template <int kStep>
  struct Walk {
    T* next;
    int64_t stride;
    __device__ __forceinline__ T* at(int) {
      T* const here = next;
      next += stride * kStep;
      return here;
    }
    __device__ __forceinline__ bool holds(int, bool inside) const { return inside; }
  };
  template <int kCount, int kStep>
  __device__ __forceinline__ Walk<kStep> walk(int first, int column, int) const {
    return {data + first * stride + column, stride};
  }
};

template <class T>
__device__ __forceinline__ Rows<T> rowsOf(const Operand& t, int b, int h, int width) {
  return {static_cast<T*>(t.data) + b * t.batch + h * t.head, t.token, t.step, width, t.aligned};
}

// What a block works on: rows [row, row + rows of a tile) of a sequence and head.
struct TilePlace {
  Sequence sequence;
  int h, row;
  bool surplus;  // beyond the last row: nothing to do
};

struct Problem {
  Operand q, k, v;
  const int32_t *keyLengths = nullptr, *queryLengths = nullptr, *prefixLengths = nullptr;
  int64_t keyLengthStep = 0, queryLengthStep = 0, prefixLengthStep = 0;
  // Packed: where sequences begin, from attention_sequences.cu, one more at both ends; else null.
  const int32_t *queryStarts = nullptr, *keyStarts = nullptr;
  int sequences = 0;
  int batch = 0, queryHeads = 0, keyHeads = 0, queries = 0, keys = 0, dim = 0, valueDim = 0;
  int left = 0, right = 0;
  Score score;
  Terms terms;

  __device__ __forceinline__ int group() const { return queryHeads / keyHeads; }

  // Lengths outside of the tensors are clamped: a kernel cannot refuse.
  __device__ __forceinline__ Band band(int b) const {
    const int n =
        queryLengths == nullptr ? queries : clampTo(queryLengths[b * queryLengthStep], 0, queries);
    const int m = keyLengths == nullptr ? keys : clampTo(keyLengths[b * keyLengthStep], 0, keys);
    return {n, m, left, right, prefix(b, m)};
  }
  __device__ __forceinline__ int prefix(int s, int most) const {
    return prefixLengths == nullptr ? 0 : clampTo(prefixLengths[s * prefixLengthStep], 0, most);
  }
  // Packed sequence s as its queries or keys see it.
  template <bool kKeySide>
  __device__ __forceinline__ Sequence packed(int s) const {
    int n = queryStarts[s + 1] - queryStarts[s], m = keyStarts[s + 1] - keyStarts[s];
    const bool real = s > 0 && s + 1 < sequences;
    if (!real) (kKeySide ? n : m) = 0;
    return {{n, m, left, right, real ? prefix(s - 1, m) : 0}, s};
  }
  __device__ __forceinline__ Sequence entry(int b) const { return {band(b), b}; }
  // Where it lies; looked up when asked for, since registers are short.
  __device__ __forceinline__ int entryOf(const Sequence& s) const {
    return queryStarts == nullptr ? s.index : 0;
  }
  __device__ __forceinline__ int queryBegin(const Sequence& s) const {
    return queryStarts == nullptr ? 0 : queryStarts[s.index];
  }
  __device__ __forceinline__ int keyBegin(const Sequence& s) const {
    return queryStarts == nullptr ? 0 : keyStarts[s.index];
  }
  // Rows that belong to it, padding included.
  template <bool kKeySide>
  __device__ __forceinline__ int rowCount(const Sequence& s) const {
    if (queryStarts == nullptr) return kKeySide ? keys : queries;
    return kKeySide ? s.band.keys : s.band.queries;
  }
  // Whether row i of entry b is a query.
  __device__ __forceinline__ bool isQuery(int b, int i) const {
    if (queryStarts == nullptr) return i < band(b).queries;
    return i >= queryStarts[1] && i < queryStarts[sequences - 1];
  }

  // What the outputs of row i are multiplied with, once the sink is in its sum; padding has none.
  __device__ __forceinline__ float finish(RowState& state, const Sequence& s, int h, int i) const {
    float factor = terms.grown;
    if (terms.sinks != nullptr && isQuery(entryOf(s), queryBegin(s) + i))
      factor *= state.join(terms.sink(h));
    return factor * state.inverse();
  }

  // Keys that any of the queries [row, row + count) may see, and the converse.
  template <class Mask>
  __device__ __forceinline__ Range keysOf(const Sequence& s, const Mask& mask, int row,
                                          int count) const {
    const Range range = mask.keysOf(row, row + count);
    if (terms.querySegments.data == nullptr) return range;
    return joined(terms.querySegments, entryOf(s), queryBegin(s) + row,
                  min(count, mask.queries - row), terms.keySegments, keyBegin(s), range);
  }
  template <class Mask>
  __device__ __forceinline__ Range queriesOf(const Sequence& s, const Mask& mask, int row,
                                             int count) const {
    const Range range = mask.queriesOf(row, row + count);
    if (terms.querySegments.data == nullptr) return range;
    return joined(terms.keySegments, entryOf(s), keyBegin(s) + row, min(count, mask.keys - row),
                  terms.querySegments, queryBegin(s), range);
  }

  // Whether a block mask hides all pairs of a tile, whose rows and keys may reach beyond the last.
  __device__ __forceinline__ bool hides(int b, int h, Range rows, Range tile) const {
    if (terms.mask.rows == nullptr) return false;
    return terms.mask.hides(b, h, {rows.begin, min(rows.end, queries)},
                            {tile.begin, min(tile.end, keys)});
  }

  // The first tile of kKeys keys, from `tile` on and before `end`, that a block mask shows to any
  // of the rows.
  template <int kKeys>
  __device__ __forceinline__ int visible(int b, int h, Range rows, int tile, int end) const {
    while (tile < end && hides(b, h, rows, {tile, tile + kKeys})) tile += kKeys;
    return tile;
  }

  // Tiles of one head: slot `row / kRows + s` and those after it are those of sequence s, whose
  // first row is `row`; the last of them may be left over.
  __host__ __device__ __forceinline__ int tiles(int rows, int kRows) const {
    return queryStarts == nullptr ? (rows + kRows - 1) / kRows : rows / kRows + sequences;
  }
  // Grid: tiles of keys or queries, then heads, then batch entries. With a causal mask the first
  // keys and the last queries have most to do: they go first.
  template <bool kKeySide, int kRows>
  __device__ __forceinline__ TilePlace tile() const {
    const auto count = static_cast<uint32_t>(tiles(kKeySide ? keys : queries, kRows));
    return tile<kKeySide, kRows>(blockIdx.x % count, blockIdx.x / count);
  }
  // Tile `place` of those of a head, heads counted through all batch entries.
  template <bool kKeySide, int kRows>
  __device__ __forceinline__ TilePlace tile(uint32_t place, uint32_t head) const {
    const auto heads = static_cast<uint32_t>(kKeySide ? keyHeads : queryHeads);
    const int count = tiles(kKeySide ? keys : queries, kRows);
    const int slot = kKeySide ? static_cast<int>(place) : count - 1 - static_cast<int>(place);
    const int h = static_cast<int>(head % heads);
    if (queryStarts == nullptr) {
      return {entry(static_cast<int>(head / heads)), h, slot * kRows, false};
    }
    const int32_t* const starts = kKeySide ? keyStarts : queryStarts;
    int s = 0;  // the last sequence whose first slot is not after ours
    for (int stop = sequences; stop - s > 1;) {
      const int middle = (s + stop) / 2;
      (starts[middle] / kRows + middle <= slot ? s : stop) = middle;
    }
    const Sequence sequence = packed<kKeySide>(s);
    const int row = (slot - starts[s] / kRows - s) * kRows;
    return {sequence, h, row, row >= rowCount<kKeySide>(sequence)};
  }
};

// ---- Host
// -----------------------------------------------------------------------------------------

// `view` has the axes [B, H, tokens, dim].
inline Operand operandOf(const TensorView& view) {
  Operand t;
  const int64_t bytes = static_cast<int64_t>(sizeOf(view.dtype));
  t.data = view.base + view.offset * bytes;
  // Along an axis of one, a step means nothing and must not spoil alignment.
  const auto step = [&](int axis, int64_t none) {
    return view.shape[axis] <= 1 ? none : view.stride[axis];
  };
  t.batch = step(0, 0), t.head = step(1, 0), t.token = step(2, 0), t.step = step(3, 1);
  t.aligned = reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.step == 1;
  for (const int64_t x : {t.batch, t.head, t.token}) t.aligned = t.aligned && x * bytes % 16 == 0;
  return t;
}

inline Problem problemOf(const ops::AttentionProblem& p) {
  Problem problem;
  problem.q = operandOf(p.headMajor(p.q));
  problem.k = operandOf(p.headMajor(p.k));
  problem.v = operandOf(p.headMajor(p.v));
  if (p.keyLengths.defined()) {
    problem.keyLengths = p.keyLengths.data<int32_t>();
    problem.keyLengthStep = p.keyLengths.stride[0];
  }
  if (p.queryLengths.defined()) {
    problem.queryLengths = p.queryLengths.data<int32_t>();
    problem.queryLengthStep = p.queryLengths.stride[0];
  }
  if (p.prefixLengths.defined()) {
    problem.prefixLengths = p.prefixLengths.data<int32_t>();
    problem.prefixLengthStep = p.prefixLengths.stride[0];
  }
  problem.batch = static_cast<int>(p.batch());
  problem.queryHeads = static_cast<int>(p.queryHeads());
  problem.keyHeads = static_cast<int>(p.keyHeads());
  problem.queries = static_cast<int>(p.queries());
  problem.keys = static_cast<int>(p.keys());
  problem.dim = static_cast<int>(p.dim());
  problem.valueDim = static_cast<int>(p.valueDim());
  const auto bound = [](int64_t x) {
    return x < 0 ? kUnbounded : static_cast<int>(std::min<int64_t>(x, kUnbounded));
  };
  problem.left = bound(p.windowLeft);
  problem.right = p.causal ? 0 : bound(p.windowRight);
  problem.score = Score(p.scale, p.softcap, p.hasTerms());
  problem.terms = Terms(p);
  return problem;
}

// Calls f with the tag of the smallest class of head dimensions that holds both.
template <int kDim>
using DimTag = std::integral_constant<int, kDim>;

template <class F>
auto dispatchDim(const Problem& p, F&& f) {
  const int dim = std::max(p.dim, p.valueDim);
  if (dim <= 64) return f(DimTag<64>{});
  if (dim <= 128) return f(DimTag<128>{});
  return f(DimTag<256>{});
}

// The grid of `count` blocks, or why there cannot be one.
inline Status gridOf(int64_t count, dim3* grid) {
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  if (count > kMost) {
    return Status(Code::failed, "q", std::to_string(count) + " tiles of queries",
                  "Split the batch: a launch has at most 2^31 - 1 of them");
  }
  *grid = dim3(static_cast<uint32_t>(count));
  return {};
}

}  // namespace longspan::cuda
