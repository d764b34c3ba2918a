// Maxima and minima over any axes with the position of the first extreme element (reduction.cuh).
// NaN counts as more extreme than any number; merging prefers the lower position, so the order of
// merging does not matter. Reads each element once. Backward clears the gradient and writes one
// element per result.
//
// Instructions of an f32 element of rows of 1024 in SASS for sm_90a, counted, not timed: 25, of
// which 6 merge the threads of a row; an H200 issues 29 in the time in which a copy reads or
// writes 4 bytes. Predicted: 75 % of copy speed, bound by instructions. In this form not yet run
// on hardware; the form before, which branched at every element, was right on an H200 and had 39 %
// of copy speed (bench/results/nvidia-h200.json, 28 November 2026).
#include "cpp/ops/dense/extremum.h"
#include "cuda/any_element.cuh"
#include "cuda/dense/reduction.cuh"

namespace longspan::cuda {
namespace {

// Of floats in float, of integers in int32_t.
template <class Value_>
struct Extreme {
  using Value = Value_;
  struct State {
    Value value;
    int32_t index;  // -1: nothing yet
  };

  AnyElements y;   // without data: not wanted
  int32_t* index;  // null: not wanted
  bool max;

  __device__ __forceinline__ bool beats(Value a, Value b) const {
    return (max ? a > b : a < b) || (a != a && b == b);
  }
  __device__ __forceinline__ State none() const { return {Value{}, -1}; }
  // The same number, or one whose order among such is the opposite; twice it is the first again.
  __device__ __forceinline__ Value turned(Value x) const {
    if constexpr (std::is_integral_v<Value>) {
      return max ? x : ~x;
    } else {
      return max ? x : -x;
    }
  }
  // Elements come in the order of their positions.
  __device__ __forceinline__ void add(State& best, Value x, int64_t at) const {
    if (best.index < 0 || beats(x, best.value)) best = {x, static_cast<int32_t>(at)};
  }
  // Of n neighbours. Without NaN, in the order of what is sought, they take a comparison and two
  // selections each; with it they are taken one by one.
  template <int n>
  __device__ __forceinline__ void addRun(State& best, const Value (&x)[n], int64_t from) const {
    bool unordered = best.value != best.value;
#pragma unroll
    for (const Value one : x) unordered |= one != one;
    if (unordered) {
#pragma unroll 1
      for (int j = 0; j < n; ++j) {
        Value one = x[0];
#pragma unroll
        for (int i = 1; i < n; ++i) one = i == j ? x[i] : one;
        add(best, one, from + j);
      }
      return;
    }
    const bool first = best.index < 0;
    Value top = turned(first ? x[0] : best.value);
    int at = first ? 0 : -1;
#pragma unroll
    for (int j = 0; j < n; ++j) {
      const Value one = turned(x[j]);
      const bool more = one > top;
      top = more ? one : top;
      at = more ? j : at;
    }
    if (at >= 0) best = {turned(top), static_cast<int32_t>(from) + at};
  }
  __device__ __forceinline__ State operator()(State a, State b) const {
    if (a.index < 0) return b;
    if (b.index < 0 || beats(a.value, b.value)) return a;
    if (beats(b.value, a.value)) return b;
    return a.index < b.index ? a : b;
  }
  __device__ __forceinline__ void finish(State best, int64_t output) const {
    if (index != nullptr) index[output] = best.index;
    if (y.data != nullptr) y.store(output, best.value);
  }
};

template <class Value>
Status extremumOf(const ops::Extremum& p, const ReductionPlan& plan, Context& context) {
  const Extreme<Value> policy{p.wantValue ? AnyElements(p.y) : AnyElements(),
                              p.wantIndex ? addressOf<int32_t>(p.index) : nullptr,
                              p.kind == ops::ExtremumKind::max};
  return reduceBy(policy, plan, p.x, context);
}

Status extremum(const ops::Extremum& p, Context& context) {
  const ReductionPlan plan(p.x, p.axes);
  return isFloating(p.x.dtype) ? extremumOf<float>(p, plan, context)
                               : extremumOf<int32_t>(p, plan, context);
}

size_t extremumWorkspace(const ops::Extremum& p, const Gpu&) {
  return reductionWorkspace<Extreme<float>>(ReductionPlan(p.x, p.axes));
}

// gradX, cleared before, at the recorded element of each result.
__global__ void __launch_bounds__(256)
    placeGradients(const void* gradY, const __grid_constant__ Axes gradAxes, const int32_t* index,
                   const __grid_constant__ Axes kept, const __grid_constant__ Axes reduced,
                   void* gradX, int bytes) {
  const int64_t o = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (o >= kept.count) return;
  dispatchBits(bytes, [&](auto tag) {
    using Bits = typename decltype(tag)::type;
    const Bits grad = static_cast<const Bits*>(gradY)[gradAxes.at(o)];
    static_cast<Bits*>(gradX)[kept.at(o) + reduced.at(index[o])] = grad;
  });
}

Status extremumBackward(const ops::ExtremumBackward& p, Context& context) {
  if (p.gradX.numel() == 0) return {};
  const ReductionPlan plan(p.gradX, p.axes);
  LONGSPAN_RETURN_IF_ERROR(launched(cudaMemsetAsync(
      addressOf<void>(p.gradX), 0, static_cast<size_t>(p.gradX.bytes()), context.stream)));
  const dim3 grid(static_cast<uint32_t>((plan.outputs() + 255) / 256));
  return launched(launch(placeGradients, grid, dim3(256), 0, context.stream,
                         addressOf<void>(p.gradY), Axes::of(p.gradY), addressOf<int32_t>(p.index),
                         plan.kept, plan.reduced, addressOf<void>(p.gradX),
                         static_cast<int>(sizeOf(p.gradX.dtype))));
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Extremum, extremum, extremumWorkspace);
LONGSPAN_CUDA_OPERATOR(ExtremumBackward, extremumBackward);

}  // namespace
}  // namespace longspan::cuda
