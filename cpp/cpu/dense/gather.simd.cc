// gather moves elements by their bits. scatterAdd is deterministic without atomics: an item owns
// lines along the axis and adds their sources in order, 16-bit floats into an f32 image of the
// result.
#include "cpp/ops/dense/gather.h"

#include "cpp/cpu/element.h"
#include "cpp/cpu/indices.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu {
namespace {

TensorView withoutAxis(TensorView t, int64_t axis) {
  t.shape[axis] = 1;
  return t;
}

// y = x, converted; y is row-major.
template <class From, class To>
void copyAll(const TensorView& x, const TensorView& y, To* target, ThreadPool& pool) {
  const StridedLoop<2> loop({&x, &y});
  const int64_t xs = loop.stride[0][loop.rank - 1];
  const From* source = x.data<From>();
  loop.forEach(pool, 1 << 16, [&](std::array<int64_t, 2> at, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      target[at[1] + i] = store<To>(load(source[at[0] + i * xs]));
  });
}

template <class T, class A>
void scatter(const ops::ScatterAdd& p, A* sums, BadIndex& bad, ThreadPool& pool) {
  const int64_t axis = p.axis, steps = p.index.shape[axis], length = p.x.shape[axis];
  const int64_t ds = p.index.stride[axis], ss = p.source.stride[axis], ys = p.y.stride[axis];
  const TensorView index = withoutAxis(p.index, axis), source = withoutAxis(p.source, axis);
  TensorView y = withoutAxis(p.y, axis);
  y.shape = index.shape;
  TensorView place = TensorView::like(p.index);  // row-major positions, for the report
  const int64_t ps = place.stride[axis];
  place.shape = index.shape;
  const StridedLoop<4> loop({&index, &source, &y, &place});
  const int inner = loop.rank - 1;
  const int64_t di = loop.stride[0][inner], si = loop.stride[1][inner], yi = loop.stride[2][inner];
  const int64_t pi = loop.stride[3][inner];
  const int64_t grain = std::max<int64_t>(16, (1 << 15) / std::max<int64_t>(steps, 1));
  loop.forEach(pool, grain, [&](std::array<int64_t, 4> at, int64_t begin, int64_t end) {
    const int32_t* ids = p.index.data<int32_t>() + at[0];
    const T* from = p.source.data<T>() + at[1];
    for (int64_t t = 0; t < steps; ++t) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t id = ids[t * ds + i * di];
        if (id < 0 || id >= length) {
          bad.record(at[3] + t * ps + i * pi);
          continue;
        }
        A& sum = sums[at[2] + i * yi + id * ys];
        if constexpr (std::is_integral_v<A>) {
          sum = static_cast<A>(static_cast<uint32_t>(sum) +
                               static_cast<uint32_t>(from[t * ss + i * si]));
        } else {
          sum += load(from[t * ss + i * si]);
        }
      }
    }
  });
}

}  // namespace

Status gather(const ops::Gather& p, Context& context) {
  TensorView x = withoutAxis(p.x, p.axis);
  const int64_t length = p.x.shape[p.axis], step = p.x.stride[p.axis];
  x.shape = p.index.shape;
  x.stride[p.axis] = 0;
  const StridedLoop<3> loop({&x, &p.index, &p.y});
  const int inner = loop.rank - 1;
  const int64_t xs = loop.stride[0][inner], ds = loop.stride[1][inner];
  BadIndex bad;
  withElement(p.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    loop.forEach(context.pool, 1 << 14, [&](std::array<int64_t, 3> at, int64_t begin, int64_t end) {
      const T* source = p.x.data<T>() + at[0];
      const int32_t* ids = p.index.data<int32_t>() + at[1];
      T* y = p.y.data<T>() + at[2];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t id = ids[i * ds];
        if (id < 0 || id >= length) {
          bad.record(at[2] + i);
        } else {
          y[i] = source[i * xs + id * step];
        }
      }
    });
  });
  return bad.status("index", p.index, length);
}

Status scatterAdd(const ops::ScatterAdd& p, Context& context) {
  BadIndex bad;
  dispatchAny(p.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>) {
      auto* sums = reinterpret_cast<float*>(context.workspace.data);
      copyAll<T>(p.x, p.y, sums, context.pool);
      scatter<T>(p, sums, bad, context.pool);
      T* y = p.y.data<T>();
      context.pool.forRange(p.y.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) y[i] = store<T>(sums[i]);
      });
    } else {
      copyAll<T>(p.x, p.y, p.y.data<T>(), context.pool);
      scatter<T>(p, p.y.data<T>(), bad, context.pool);
    }
  });
  return bad.status("index", p.index, p.x.shape[p.axis]);
}

}  // namespace longspan::cpu
