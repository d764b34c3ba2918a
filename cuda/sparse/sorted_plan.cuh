// What the kernels of sorted attention read of its orders, in the workspace.
#pragma once

#include "cpp/ops/sparse/sorted_attention.h"
#include "cuda/attention/widened.cuh"
#include "cuda/sparse/sorted.cuh"

namespace longspan::cuda {

// Where a plan is written to.
struct SortedPlan {
  struct Side {
    int32_t *position, *begin, *end, *group, *first, *count;
  };
  Side queries, keys;
  // Of what is by position: first of keys, then first and count of queries, one after another.
  int64_t keyPlaces = 0, queryPlaces = 0;

  SortedPlan(const ops::SortedAttentionProblem& p, bool backward, Pieces& pieces);
};

// Fills the plan, and lse and roundLse, which may be null, with -inf.
Status makePlan(const ops::SortedAttentionProblem& p, const SortedPlan& plan, float* lse,
                float* roundLse, cudaStream_t stream);

// The same as kernels read it, for the first round.
Sorted sortedOf(const ops::SortedAttentionProblem& p, const SortedPlan& plan, bool backward);

// Operands, lengths and scale.
Problem problemOf(const ops::SortedAttentionProblem& p);

// What kernels on a GPU refuse.
Status checkSorted(const ops::SortedAttentionProblem& p);

// A contiguous tensor becomes zero.
inline Status clearSorted(const TensorView& t, cudaStream_t stream) {
  int64_t count = 1;  // elements, padding of rows included
  for (int i = 0; i < t.rank; ++i) count *= t.shape[i];
  if (count == 0) return {};
  if (t.rank > 1) count = t.shape[0] * t.stride[0];
  const auto bytes = static_cast<size_t>(count) * sizeOf(t.dtype);
  return launched(
      cudaMemsetAsync(t.base + t.offset * static_cast<int64_t>(sizeOf(t.dtype)), 0, bytes, stream));
}

// Above 128 dimensions the kernels for f32 compute calls in 16 bits too.
inline bool widens(const ops::SortedAttentionProblem& p) {
  return p.q.dtype != DType::f32 && std::max(p.dim(), p.valueDim()) > 128;
}
inline QueryKeyValue operandsOf(const ops::SortedAttentionProblem& p) { return {p.q, p.k, p.v}; }

}  // namespace longspan::cuda
