// Sums and means over any axes (reduction.cuh), in f32, of integers in i64. A thread adds runs of
// 16 bytes, each summed for itself, then all merge pairwise, so errors stay well below those of
// one running sum. Reads each element once.
//
// Instructions of an element in SASS for sm_90a, counted, not timed: rows of 1024 in f32 12,
// columns 2.3; an H200 issues 29 in the time in which a copy reads or writes 4 bytes. Bytes in
// flight decide: on each multiprocessor 128 of each of 640 threads by rows, 64 of each of 1024 by
// columns. Predicted: 85 to 90 % of copy speed. In this form not yet run on hardware; the form
// before was right on an H200 and had 73 % of copy speed for the sum of rows, 45 % for that of
// columns, which had 16 KiB in flight of each multiprocessor (bench/results/nvidia-h200.json, 28
// November 2026).
#include "cpp/ops/dense/reduce.h"
#include "cuda/any_element.cuh"
#include "cuda/dense/reduction.cuh"

namespace longspan::cuda {
namespace {

// Of floats in float, of integers in long long.
template <class State_>
struct Sum {
  using State = State_;
  using Value = std::conditional_t<std::is_integral_v<State>, int32_t, float>;

  AnyElements y;
  float count;  // divides the sum; 1 where the mean is not wanted

  __device__ __forceinline__ State none() const { return 0; }
  __device__ __forceinline__ void add(State& sum, Value x, int64_t) const { sum += x; }
  template <int n>
  __device__ __forceinline__ void addRun(State& sum, const Value (&x)[n], int64_t) const {
    State own = 0;
#pragma unroll
    for (const Value one : x) own += one;
    sum += own;
  }
  __device__ __forceinline__ State operator()(State a, State b) const { return a + b; }
  __device__ __forceinline__ void finish(State sum, int64_t output) const {
    if constexpr (std::is_integral_v<State>) {
      static_cast<int32_t*>(y.data)[output] = static_cast<int32_t>(sum);  // wraps
    } else {
      y.store(output, sum / count);  // the mean of nothing is NaN
    }
  }
};

Status reduce(const ops::Reduce& p, Context& context) {
  const ReductionPlan plan(p.x, p.axes);
  const float count =
      p.kind == ops::ReduceKind::mean ? static_cast<float>(plan.reduced.count) : 1.0f;
  if (isFloating(p.x.dtype)) {
    return reduceBy(Sum<float>{AnyElements(p.y), count}, plan, p.x, context);
  }
  return reduceBy(Sum<long long>{AnyElements(p.y), count}, plan, p.x, context);
}

size_t reduceWorkspace(const ops::Reduce& p, const Gpu&) {
  const ReductionPlan plan(p.x, p.axes);
  return isFloating(p.x.dtype) ? reductionWorkspace<Sum<float>>(plan)
                               : reductionWorkspace<Sum<long long>>(plan);
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Reduce, reduce, reduceWorkspace);

}  // namespace
}  // namespace longspan::cuda
