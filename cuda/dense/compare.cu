// Comparisons with broadcasting, results u8. Floats are compared in f32; integers as integers, or
// in f64, which holds them exactly, where one operand is a number. 9 bytes per f32 element. H200:
// 90 % of copy speed. Not yet run on hardware.
#include "cpp/ops/dense/compare.h"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

using ops::CompareKind;

template <class A>
__device__ __forceinline__ bool holds(CompareKind kind, A s, A t) {
  switch (kind) {
    case CompareKind::notEqual:
      return s != t;
    case CompareKind::less:
      return s < t;
    case CompareKind::lessEqual:
      return s <= t;
    case CompareKind::greater:
      return s > t;
    case CompareKind::greaterEqual:
      return s >= t;
    case CompareKind::logicalAnd:
      return s != A{0} && t != A{0};
    case CompareKind::logicalOr:
      return s != A{0} || t != A{0};
    default:
      return s == t;
  }
}

template <class T>
struct Relation {
  // Bytes are compared as i32 or f64: groups of 16 would not fit the registers.
  static constexpr int kViews = 3, kLanes = sizeof(T) == 1 ? 8 : kLanesOf<T>;
  struct Loaded {
    Vector<T, kLanes> a, b;
  };
  const T *a, *b;  // null: a number
  uint8_t* y;
  double value;
  CompareKind kind;

  __device__ __forceinline__ void load(const Walk<3, kLanes>& walk, const Place<3>& p,
                                       Loaded& l) const {
    if (a != nullptr) loadGroup(walk, p, 0, a, l.a);
    if (b != nullptr) loadGroup(walk, p, 1, b, l.b);
  }
  template <class A>
  __device__ __forceinline__ void relate(const Loaded& l, Vector<uint8_t, kLanes>& out) const {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      const A s = a != nullptr ? number<A>(l.a.at[i]) : static_cast<A>(value);
      const A t = b != nullptr ? number<A>(l.b.at[i]) : static_cast<A>(value);
      out.at[i] = holds(kind, s, t) ? 1 : 0;
    }
  }
  template <class A>
  __device__ __forceinline__ static A number(T x) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<A>(x);
    } else {
      return toFloat(x);
    }
  }
  __device__ __forceinline__ void finish(const Walk<3, kLanes>& walk, const Place<3>& p,
                                         Loaded& l) const {
    Vector<uint8_t, kLanes> out;
    if constexpr (!std::is_integral_v<T>) {
      relate<float>(l, out);
    } else if (a != nullptr && b != nullptr) {
      relate<int32_t>(l, out);
    } else {
      relate<double>(l, out);
    }
    storeGroup(walk, p, 2, y, out);
  }
};

}  // namespace

Status compare(const ops::Compare& p, Context& context) {
  const TensorView number = numberLike(p.y);
  const TensorView &a = p.a.defined() ? p.a : number, &b = p.b.defined() ? p.b : number;
  const DType dtype = p.a.defined() ? p.a.dtype : p.b.dtype;
  const auto run = [&](auto tag) {
    using T = typename decltype(tag)::type;
    return elementwise<1>(
        Relation<T>{p.a.defined() ? p.a.data<T>() : nullptr,
                    p.b.defined() ? p.b.data<T>() : nullptr, p.y.data<uint8_t>(), p.value, p.kind},
        {&a, &b, &p.y}, context);
  };
  if (dtype == DType::i32) return run(Tag<int32_t>{});
  if (dtype == DType::u8) return run(Tag<uint8_t>{});
  return dispatchNarrow(dtype, run);
}

LONGSPAN_CUDA_OPERATOR(Compare, compare);

}  // namespace longspan::cuda
