// Arithmetic of two operands with broadcasting. An operand that repeats along the innermost axis is
// read once per group, one that repeats along outer axes comes from the cache. 12 bytes and 1 FLOP
// per f32 element, 6 bytes in 16 bits; pow about 60 instructions. H200: 90 % of copy speed, pow
// about 60 %. Right on an H200; times: bench/results/nvidia-h200.json.
#include "cpp/ops/dense/binary.h"
#include "cuda/any_element.cuh"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

using ops::BinaryKind;

template <class T>
struct Operands {
  static constexpr int kViews = 3, kLanes = kLanesOf<T>;
  using Group = Vector<T, kLanes>;
  struct Loaded {
    Group a, b;
  };
  const T *a, *b;  // null: a number
  T* y;

  __device__ __forceinline__ void load(const Walk<3, kLanes>& walk, const Place<3>& p,
                                       Loaded& l) const {
    if (a != nullptr) loadGroup(walk, p, 0, a, l.a);
    if (b != nullptr) loadGroup(walk, p, 1, b, l.b);
  }
};

// y = f(a, b) in f32.
template <class T, class F>
__device__ __forceinline__ void apply(const Operands<T>& o, const typename Operands<T>::Loaded& l,
                                      float value, typename Operands<T>::Group& out, F&& f) {
#pragma unroll
  for (int i = 0; i < Operands<T>::kLanes; ++i) {
    const float s = o.a != nullptr ? toFloat(l.a.at[i]) : value;
    const float t = o.b != nullptr ? toFloat(l.b.at[i]) : value;
    out.at[i] = fromFloat<T>(f(s, t));
  }
}

template <class T>
struct Arithmetic : Operands<T> {
  using Base = Operands<T>;
  using Base::kLanes;
  float value;
  BinaryKind kind;

  __device__ __forceinline__ void finish(const Walk<3, kLanes>& walk, const Place<3>& p,
                                         typename Base::Loaded& l) const {
    typename Base::Group out;
    switch (kind) {
      case BinaryKind::sub:
        apply(*this, l, value, out, [](float s, float t) { return s - t; });
        break;
      case BinaryKind::mul:
        apply(*this, l, value, out, [](float s, float t) { return s * t; });
        break;
      case BinaryKind::div:
        apply(*this, l, value, out, [](float s, float t) { return s / t; });
        break;
      case BinaryKind::maximum:  // NaN of either operand stays
        apply(*this, l, value, out, [](float s, float t) { return s != s || s > t ? s : t; });
        break;
      case BinaryKind::minimum:
        apply(*this, l, value, out, [](float s, float t) { return s != s || s < t ? s : t; });
        break;
      default:
        apply(*this, l, value, out, [](float s, float t) { return s + t; });
    }
    storeGroup(walk, p, 2, this->y, out);
  }
};

// Limited by its arithmetic: one kernel for all types, one element at a time.
struct Power {
  static constexpr int kViews = 3, kLanes = 1;
  struct Loaded {
    float a, b;
  };
  AnyElements a, b, y;  // a, b without data: a number
  float value;

  __device__ __forceinline__ void load(const Walk<3, 1>&, const Place<3>& p, Loaded& l) const {
    l.a = a.data != nullptr ? a.load<float>(p.at[0]) : value;
    l.b = b.data != nullptr ? b.load<float>(p.at[1]) : value;
  }
  __device__ __forceinline__ void finish(const Walk<3, 1>&, const Place<3>& p, Loaded& l) const {
    y.store(p.at[2], powf(l.a, l.b));
  }
};

// Unsigned arithmetic: overflow wraps.
struct Integers : Operands<int32_t> {
  int32_t value;
  BinaryKind kind;

  __device__ __forceinline__ static int32_t result(BinaryKind kind, int32_t s, int32_t t) {
    const auto u = static_cast<uint32_t>(s), v = static_cast<uint32_t>(t);
    switch (kind) {
      case BinaryKind::sub:
        return static_cast<int32_t>(u - v);
      case BinaryKind::mul:
        return static_cast<int32_t>(u * v);
      case BinaryKind::maximum:
        return s > t ? s : t;
      case BinaryKind::minimum:
        return s < t ? s : t;
      default:
        return static_cast<int32_t>(u + v);
    }
  }
  __device__ __forceinline__ void finish(const Walk<3, kLanes>& walk, const Place<3>& p,
                                         Loaded& l) const {
    Group out;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      out.at[i] = result(kind, a != nullptr ? l.a.at[i] : value, b != nullptr ? l.b.at[i] : value);
    }
    storeGroup(walk, p, 2, y, out);
  }
};

}  // namespace

Status binary(const ops::Binary& p, Context& context) {
  const TensorView number = numberLike(p.y);
  const TensorView &a = p.a.defined() ? p.a : number, &b = p.b.defined() ? p.b : number;
  const auto operands = [&](auto tag) {
    using T = typename decltype(tag)::type;
    return Operands<T>{p.a.defined() ? p.a.data<T>() : nullptr,
                       p.b.defined() ? p.b.data<T>() : nullptr, p.y.data<T>()};
  };
  if (p.y.dtype == DType::i32) {
    return elementwise(Integers{operands(Tag<int32_t>{}), static_cast<int32_t>(p.value), p.kind},
                       {&a, &b, &p.y}, context);
  }
  const auto value = static_cast<float>(p.value);
  if (p.kind == BinaryKind::pow) {
    const auto elements = [](const TensorView& t) {
      return t.defined() ? AnyElements(t) : AnyElements();
    };
    return elementwise<1>(Power{elements(p.a), elements(p.b), AnyElements(p.y), value},
                          {&a, &b, &p.y}, context);
  }
  return dispatchNarrow(p.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    return elementwise<1>(Arithmetic<T>{operands(tag), value, p.kind}, {&a, &b, &p.y}, context);
  });
}

LONGSPAN_CUDA_OPERATOR(Binary, binary);

}  // namespace longspan::cuda
