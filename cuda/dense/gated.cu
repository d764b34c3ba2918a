// Gated activations: two operands and one result, 12 bytes per f32 element, 6 in 16 bits; backward
// three and two, 20 and 10 bytes, the activation evaluated again instead of being stored. H200: 90
// % of copy speed in f32, in 16 bits about 85 %, predicted from instructions (pointwise.cuh). The
// form before was right on an H200; with these functions not yet run on hardware.
#include <utility>

#include "cpp/ops/dense/gated.h"
#include "cuda/elementwise.cuh"
#include "cuda/pointwise.cuh"

namespace longspan::cuda {
namespace {

using ops::GatedKind;

TensorView half(const TensorView& t, int which) {
  TensorView v = t;
  const int last = t.rank - 1;
  v.shape[last] /= 2;
  v.offset += which * v.shape[last] * v.stride[last];
  return v;
}

// Calls f(Activation{}).
template <class F>
__device__ __forceinline__ void withActivation(GatedKind kind, F&& f) {
  switch (kind) {
    case GatedKind::swiglu:
      return f(pointwise::Silu{});
    case GatedKind::geglu:
      return f(pointwise::Gelu{});
    case GatedKind::gegluTanh:
      return f(pointwise::GeluTanh{});
    case GatedKind::reglu:
      return f(pointwise::Relu{});
    case GatedKind::glu:
      return f(pointwise::Sigmoid{});
  }
}

// value(s) t; s is the operand that is activated.
template <class T>
struct Forward {
  static constexpr int kViews = 3, kLanes = kLanesOf<T>;
  struct Loaded {
    Vector<T, kLanes> s, t;
  };
  const T *s, *t;
  T* y;
  GatedKind kind;

  __device__ __forceinline__ void load(const Walk<3, kLanes>& walk, const Place<3>& p,
                                       Loaded& l) const {
    loadGroup(walk, p, 0, s, l.s);
    loadGroup(walk, p, 1, t, l.t);
  }
  __device__ __forceinline__ void finish(const Walk<3, kLanes>& walk, const Place<3>& p,
                                         Loaded& l) const {
    withActivation(kind, [&](auto f) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        l.s.at[i] = fromFloat<T>(f.template value<T>(toFloat(l.s.at[i])) * toFloat(l.t.at[i]));
      }
    });
    storeGroup(walk, p, 2, y, l.s);
  }
};

template <class T>
struct Backward {
  static constexpr int kViews = 5, kLanes = kLanesOf<T>;
  struct Loaded {
    Vector<T, kLanes> g, s, t;
  };
  const T *g, *s, *t;
  T *gradS, *gradT;
  GatedKind kind;

  __device__ __forceinline__ void load(const Walk<5, kLanes>& walk, const Place<5>& p,
                                       Loaded& l) const {
    loadGroup(walk, p, 0, g, l.g);
    loadGroup(walk, p, 1, s, l.s);
    loadGroup(walk, p, 2, t, l.t);
  }
  __device__ __forceinline__ void finish(const Walk<5, kLanes>& walk, const Place<5>& p,
                                         Loaded& l) const {
    withActivation(kind, [&](auto f) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        const float grad = toFloat(l.g.at[i]), x = toFloat(l.s.at[i]);
        const float value = f.template value<T>(x);
        const float slope = f.template slope<T>(f.fromOutput ? value : x);
        l.s.at[i] = fromFloat<T>(grad * toFloat(l.t.at[i]) * slope);
        l.t.at[i] = fromFloat<T>(grad * value);
      }
    });
    storeGroup(walk, p, 3, gradS, l.s);
    storeGroup(walk, p, 4, gradT, l.t);
  }
};

}  // namespace

Status gated(const ops::Gated& p, Context& context) {
  const bool joined = !p.b.defined();
  TensorView first = joined ? half(p.a, 0) : p.a, second = joined ? half(p.a, 1) : p.b;
  if (p.kind == GatedKind::glu) std::swap(first, second);
  return dispatchNarrow(p.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return elementwise<1>(Forward<T>{first.data<T>(), second.data<T>(), p.y.data<T>(), p.kind},
                          {&first, &second, &p.y}, context);
  });
}

Status gatedBackward(const ops::GatedBackward& p, Context& context) {
  const bool joined = !p.b.defined();
  TensorView first = joined ? half(p.a, 0) : p.a, second = joined ? half(p.a, 1) : p.b;
  TensorView gradFirst = joined ? half(p.gradA, 0) : p.gradA;
  TensorView gradSecond = joined ? half(p.gradA, 1) : p.gradB;
  if (p.kind == GatedKind::glu) {
    std::swap(first, second);
    std::swap(gradFirst, gradSecond);
  }
  return dispatchNarrow(p.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return elementwise<1>(Backward<T>{p.gradY.data<T>(), first.data<T>(), second.data<T>(),
                                      gradFirst.data<T>(), gradSecond.data<T>(), p.kind},
                          {&p.gradY, &first, &second, &gradFirst, &gradSecond}, context);
  });
}

LONGSPAN_CUDA_OPERATOR(Gated, gated);
LONGSPAN_CUDA_OPERATOR(GatedBackward, gatedBackward);

}  // namespace longspan::cuda
