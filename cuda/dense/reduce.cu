// Sums and means over any axes (reduction.cuh), in f32, of integers in i64. A thread adds every
// 16th to 512th element of a piece, then all merge pairwise, so errors stay well below those of one
// running sum. Reads each element once: 85 to 90 % of copy speed is expected of an H200. Right on
// an H200; times: bench/results/nvidia-h200.json.
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
