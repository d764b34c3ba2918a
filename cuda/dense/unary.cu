// Functions of each element and their gradients. The function is chosen by a branch that all
// threads take alike: one kernel per dtype. 8 bytes per f32 element, 4 in 16 bits; backward 12 and
// 6.
//
// Instructions of an element in SASS for sm_90a, counted, not timed, with addresses, loads and
// stores: gelu in 16 bits 27 (61 with the library's erfcf), silu 19, relu 14; gelu in f32 45 (65);
// beside them the branch to the function, 2 in 16 bits. An H200 issues 29 for each 16-bit element,
// 58 for each of f32, in the time of a copy. Predicted: 90 % of copy speed in f32, 80 % or more in
// 16 bits. In this form not yet run on hardware; the form before was right on an H200, where gelu
// had 71 % of copy speed in f32 and 43 % in bf16 (bench/results/nvidia-h200.json, 28 November
// 2026).
#include "cpp/ops/dense/unary.h"
#include "cuda/elementwise.cuh"
#include "cuda/pointwise.cuh"

namespace longspan::cuda {
namespace {

using ops::UnaryKind;

// Calls f(Op{}) with the function that `kind` names.
template <class F>
__device__ __forceinline__ void withFunction(UnaryKind kind, F&& f) {
  using namespace pointwise;
  switch (kind) {
    case UnaryKind::exp:
      return f(Exp{});
    case UnaryKind::log:
      return f(Log{});
    case UnaryKind::sqrt:
      return f(Sqrt{});
    case UnaryKind::rsqrt:
      return f(Rsqrt{});
    case UnaryKind::abs:
      return f(Abs{});
    case UnaryKind::neg:
      return f(Neg{});
    case UnaryKind::sin:
      return f(Sin{});
    case UnaryKind::cos:
      return f(Cos{});
    case UnaryKind::tanh:
      return f(Tanh{});
    case UnaryKind::sigmoid:
      return f(Sigmoid{});
    case UnaryKind::erf:
      return f(Erf{});
    case UnaryKind::square:
      return f(Square{});
    case UnaryKind::reciprocal:
      return f(Reciprocal{});
    case UnaryKind::softplus:
      return f(Softplus{});
    case UnaryKind::relu:
      return f(Relu{});
    case UnaryKind::reluSquared:
      return f(ReluSquared{});
    case UnaryKind::gelu:
      return f(Gelu{});
    case UnaryKind::geluTanh:
      return f(GeluTanh{});
    case UnaryKind::silu:
      return f(Silu{});
    case UnaryKind::floor:
      return f(Floor{});
    case UnaryKind::round:
      return f(Round{});
    case UnaryKind::sign:
      return f(Sign{});
  }
}

template <class T>
struct Function {
  static constexpr int kViews = 2, kLanes = kLanesOf<T>;
  struct Loaded {
    Vector<T, kLanes> x;
  };
  const T* x;
  T* y;
  UnaryKind kind;

  __device__ __forceinline__ void load(const Walk<2, kLanes>& walk, const Place<2>& p,
                                       Loaded& l) const {
    loadGroup(walk, p, 0, x, l.x);
  }
  __device__ __forceinline__ void finish(const Walk<2, kLanes>& walk, const Place<2>& p,
                                         Loaded& l) const {
    withFunction(kind, [&](auto f) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i)
        l.x.at[i] = fromFloat<T>(f.template value<T>(toFloat(l.x.at[i])));
    });
    storeGroup(walk, p, 1, y, l.x);
  }
};

template <class T>
struct UnaryGradient {
  static constexpr int kViews = 3, kLanes = kLanesOf<T>;
  struct Loaded {
    Vector<T, kLanes> grad, saved;
  };
  const T *grad, *saved;
  T* out;
  UnaryKind kind;

  __device__ __forceinline__ void load(const Walk<3, kLanes>& walk, const Place<3>& p,
                                       Loaded& l) const {
    loadGroup(walk, p, 0, grad, l.grad);
    loadGroup(walk, p, 1, saved, l.saved);
  }
  __device__ __forceinline__ void finish(const Walk<3, kLanes>& walk, const Place<3>& p,
                                         Loaded& l) const {
    withFunction(kind, [&](auto f) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        const float slope = f.template slope<T>(toFloat(l.saved.at[i]));
        l.grad.at[i] = fromFloat<T>(toFloat(l.grad.at[i]) * slope);
      }
    });
    storeGroup(walk, p, 2, out, l.grad);
  }
};

}  // namespace

Status unary(const ops::Unary& p, Context& context) {
  return dispatchNarrow(p.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return elementwise<1>(Function<T>{p.x.data<T>(), p.y.data<T>(), p.kind}, {&p.x, &p.y}, context);
  });
}

Status unaryBackward(const ops::UnaryBackward& p, Context& context) {
  return dispatchNarrow(p.saved.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return elementwise<1>(
        UnaryGradient<T>{p.gradY.data<T>(), p.saved.data<T>(), p.gradX.data<T>(), p.kind},
        {&p.gradY, &p.saved, &p.gradX}, context);
  });
}

LONGSPAN_CUDA_OPERATOR(Unary, unary);
LONGSPAN_CUDA_OPERATOR(UnaryBackward, unaryBackward);

}  // namespace longspan::cuda
