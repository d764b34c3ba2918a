// What every attention kernel is given: addresses, strides, lengths, mask and score as plain data,
// made from the operator's parameters on the host.
#pragma once

#include <algorithm>
#include <utility>

#include "cpp/ops/attention/problem.h"
#include "cuda/attention/band.cuh"
#include "cuda/attention/score.cuh"
#include "cuda/context.h"

namespace longspan::cuda {

// A tensor as [B, H, tokens, dim], strides in elements.
struct Operand {
  void* data = nullptr;
  int64_t batch = 0, head = 0, token = 0, step = 1;
  bool aligned = false;  // rows can be moved in pieces of 16 bytes
};

// The token rows of one head.
template <class T>
struct Rows {
  T* data;
  int64_t stride, step;
  int width;  // elements of a row
  bool aligned;

  __device__ __forceinline__ T& at(int row, int column) const {
    return data[row * stride + column * step];
  }
};

template <class T>
__device__ __forceinline__ Rows<T> rowsOf(const Operand& t, int b, int h, int width) {
  return {static_cast<T*>(t.data) + b * t.batch + h * t.head, t.token, t.step, width, t.aligned};
}

struct Problem {
  Operand q, k, v;
  const int32_t *keyLengths = nullptr, *queryLengths = nullptr;
  int64_t keyLengthStep = 0, queryLengthStep = 0;
  int batch = 0, queryHeads = 0, keyHeads = 0, queries = 0, keys = 0, dim = 0, valueDim = 0;
  int left = 0, right = 0;
  Score score;

  __device__ __forceinline__ int group() const { return queryHeads / keyHeads; }

  // Lengths outside of the tensors are clamped: a kernel cannot refuse.
  __device__ __forceinline__ Band band(int b) const {
    const int n =
        queryLengths == nullptr ? queries : clampTo(queryLengths[b * queryLengthStep], 0, queries);
    const int m = keyLengths == nullptr ? keys : clampTo(keyLengths[b * keyLengthStep], 0, keys);
    return {n, m, m - n, left, right};
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
  problem.score = Score(p.scale, p.softcap);
  return problem;
}

// What these kernels do not know yet.
inline Status refuseTerms(const ops::AttentionProblem& p) {
  const std::pair<const char*, bool> given[] = {{"bias", p.bias.defined()},
                                                {"alibiSlopes", p.alibiSlopes.defined()},
                                                {"querySegments", p.querySegments.defined()},
                                                {"dropout", p.dropout > 0},
                                                {"sinks", p.sinks.defined()},
                                                {"prefixLengths", p.prefixLengths.defined()},
                                                {"maskRows", p.maskRows.defined()},
                                                {"cuSeqlensQ", p.packed()}};
  for (const auto& [field, set] : given) {
    if (set) return Status(Code::unsupported, field, "an option", "Use the CPU, which knows it");
  }
  return {};
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
