// What the kernels of sorted attention read of its orders, in the workspace.
#pragma once

#include "cpp/ops/sparse/sorted_attention.h"
#include "cuda/sparse/sorted.cuh"

namespace longspan::cuda {

// Hands out a workspace piece by piece; without memory it only counts.
class Pieces {
 public:
  explicit Pieces(std::byte* memory = nullptr) : memory_(memory) {}
  template <class T>
  T* take(int64_t count) {
    constexpr size_t kAlignment = 256;
    T* const piece = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + bytes_);
    bytes_ += (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return piece;
  }
  // f32 rows for [B, H, tokens, dim], on 16 bytes.
  TensorView rows(int64_t batch, int64_t heads, int64_t tokens, int64_t dim) {
    TensorView t = TensorView::ofShape(DType::f32, {batch, heads, tokens, (dim + 3) / 4 * 4});
    t.base = reinterpret_cast<std::byte*>(take<float>(t.numel()));
    t.shape[3] = dim;
    return t;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  size_t bytes_ = 0;
};

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

// Calls f with the tag of the class of head dimensions.
template <class F>
auto dispatchSortedDim(const Problem& p, F&& f) {
  return std::max(p.dim, p.valueDim) <= 64 ? f(DimTag<64>{}) : f(DimTag<128>{});
}

}  // namespace longspan::cuda
