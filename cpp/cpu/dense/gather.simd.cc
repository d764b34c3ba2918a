// gather moves elements by their bits. scatterAdd is deterministic without atomics: an item owns
// places of the result and adds their sources in order, 16-bit floats into an f32 image of it.
//
// Indices that choose whole rows, the same one along a run, move and add the run as vectors. Bytes:
// index and source (or result) once; scatterAdd also x and the result, and where lines are fewer
// than threads each of them reads all indices.
#include "cpp/ops/dense/gather.h"

#include <cstring>

#include "cpp/cpu/chunk.h"
#include "cpp/cpu/element.h"
#include "cpp/cpu/indices.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

TensorView withoutAxis(TensorView t, int64_t axis) {
  t.shape[axis] = 1;
  return t;
}

// Whether one index stands at all n positions.
bool oneIndex(const int32_t* ids, int64_t step, int64_t n) {
  if (step == 0) return true;
  if (step != 1) return n == 1;
  const vi first = vbroadcast(ids[0]);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    if (vany(vload(ids + i) != first)) return false;
  }
  for (; i < n; ++i) {
    if (ids[i] != ids[0]) return false;
  }
  return true;
}

// y = x, converted; y is row-major.
template <class From, class To>
void copyAll(const TensorView& x, const TensorView& y, To* target, ThreadPool& pool) {
  const StridedLoop<2> loop({&x, &y});
  const int64_t step = loop.stride[0][loop.rank - 1];
  const From* source = x.data<From>();
  loop.forEach(pool, 1 << 16, [&](std::array<int64_t, 2> at, int64_t begin, int64_t end) {
    widen(source + at[0] + begin * step, step, end - begin, target + at[1] + begin);
  });
}

// sum + x; integers wrap around.
template <class T, class A>
LONGSPAN_INLINE A added(A sum, T x) {
  if constexpr (std::is_integral_v<A>) {
    return static_cast<A>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(x));
  } else {
    return sum + load(x);
  }
}

template <class T, class A>
LONGSPAN_INLINE void addRun(const T* __restrict from, int64_t n, A* __restrict sums) {
  int64_t i = 0;
  if constexpr (std::is_same_v<A, float>) {
    for (; i + kLanes <= n; i += kLanes) vstore(sums + i, vload(sums + i) + vload(from + i));
  }
  for (; i < n; ++i) sums[i] = added(sums[i], from[i]);
}

// How the additions of a scatter are divided among threads: by lines along the axis, which are
// independent, and where those are few also by places of the result. No place has two owners, and
// each gets its sources in order, so that the division does not show in the sums.
struct ScatterPlan {
  static constexpr int64_t kLeastWork = 1 << 15;  // additions
  static constexpr int64_t kLeastColumns = 64;    // of a row: some whole cache lines
  static constexpr int64_t kLeastPlaces = 64;

  int64_t width = 1, cuts = 1;  // lines of one item; items along the innermost axis of lines
  int64_t places = 1, parts = 1;

  ScatterPlan(int64_t outer, int64_t inner, int64_t steps, int64_t length, bool alongLines,
              int64_t threads) {
    const int64_t wanted = std::min(threads, 1 + outer * inner * steps / kLeastWork);
    const int64_t blocks = (wanted + outer - 1) / outer;
    width = std::max((inner + blocks - 1) / blocks, alongLines ? 1 : kLeastColumns);
    cuts = (inner + width - 1) / width;
    const int64_t most = std::max<int64_t>(1, length / kLeastPlaces);
    parts = std::min(most, (wanted + outer * cuts - 1) / (outer * cuts));
    places = std::max<int64_t>(1, (length + parts - 1) / parts);
    parts = std::max<int64_t>(1, (length + places - 1) / places);  // none is empty
  }
};

// The additions of one item: line i has the elements t along the axis.
template <class T, class A>
struct Scatter {
  static constexpr int64_t kListed = 256;

  struct Axis {
    int64_t ids, source, sums, position;  // strides
  };
  Axis step, line;  // step.sums: of places
  int64_t steps, length;
  const int32_t* ids;
  const T* source;
  A* sums;
  int64_t position;       // in the row-major index, of the first element
  int64_t lowest, count;  // places that are the item's own
  BadIndex& bad;

  bool owns(int64_t id) const {
    return static_cast<uint64_t>(id - lowest) < static_cast<uint64_t>(count);
  }
  bool invalid(int64_t id) const { return id < 0 || id >= length; }
  int64_t idAt(int64_t t, int64_t i) const { return ids[t * step.ids + i * line.ids]; }
  void check(int64_t t, int64_t i) const {
    if (invalid(idAt(t, i))) bad.record(position + t * step.position + i * line.position);
  }

  void add(int64_t t, int64_t i) const {
    const int64_t id = idAt(t, i);
    if (!owns(id)) return check(t, i);
    A& sum = sums[i * line.sums + id * step.sums];
    sum = added(sum, source[t * step.source + i * line.source]);
  }

  void addLine(int64_t i) const {
    for (int64_t t = 0; t < steps; ++t) add(t, i);
  }

  // The same where other items own places of the line too. Whose place comes next is random: lists
  // of the own ones are made without a branch to mispredict.
  void addPartOfLine(int64_t i) const {
    int64_t own[kListed];
    for (int64_t first = 0; first < steps; first += kListed) {
      const int64_t stop = std::min(steps, first + kListed);
      int64_t listed = 0;
      bool strange = false;
      for (int64_t t = first; t < stop; ++t) {
        const int64_t id = idAt(t, i);
        own[listed] = t;
        listed += owns(id);
        strange |= invalid(id);
      }
      for (int64_t k = 0; k < listed; ++k) add(own[k], i);
      for (int64_t t = first; strange && t < stop; ++t) check(t, i);
    }
  }

  // Lines [begin, end), a step of all of them at a time.
  void addAcross(int64_t begin, int64_t end) const {
    const bool runs = line.source == 1 && line.sums == 1;
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t id = idAt(t, begin);
      if (!runs || !oneIndex(ids + t * step.ids + begin * line.ids, line.ids, end - begin)) {
        for (int64_t i = begin; i < end; ++i) add(t, i);
      } else if (owns(id)) {
        addRun(source + t * step.source + begin, end - begin, sums + begin + id * step.sums);
      } else {
        check(t, begin);
      }
    }
  }
};

template <class T, class A>
void scatter(const ops::ScatterAdd& p, A* sums, BadIndex& bad, ThreadPool& pool) {
  const int64_t axis = p.axis, steps = p.index.shape[axis], length = p.x.shape[axis];
  const TensorView positions = TensorView::like(p.index);
  const TensorView index = withoutAxis(p.index, axis), source = withoutAxis(p.source, axis),
                   position = withoutAxis(positions, axis);
  TensorView y = withoutAxis(p.y, axis);
  y.shape = index.shape;
  const StridedLoop<4> loop({&index, &source, &y, &position});
  const int64_t inner = loop.innerLength(), outer = loop.runs();
  if (inner == 0 || outer == 0 || steps == 0) return;
  using Axis = typename Scatter<T, A>::Axis;
  const auto lineStride = [&](int view) { return loop.stride[view][loop.rank - 1]; };
  const Axis step{p.index.stride[axis], p.source.stride[axis], p.y.stride[axis],
                  positions.stride[axis]};
  const Axis line{lineStride(0), lineStride(1), lineStride(2), lineStride(3)};
  // In memory a line is contiguous, or its neighbours are.
  const bool alongLines = inner == 1 || step.source < line.source;
  const ScatterPlan plan(outer, inner, steps, length, alongLines, pool.size());
  const int64_t grain =
      std::max<int64_t>(1, ScatterPlan::kLeastWork / 4 / std::max<int64_t>(1, plan.width * steps));
  pool.forRange(outer * plan.cuts * plan.parts, grain, [&](int64_t firstItem, int64_t endItem) {
    for (int64_t item = firstItem; item < endItem; ++item) {
      const int64_t part = item % plan.parts, block = item / plan.parts;
      const int64_t begin = block % plan.cuts * plan.width;
      const int64_t end = std::min(inner, begin + plan.width);
      const auto at = loop.offsets(block / plan.cuts);
      const int64_t lowest = part * plan.places;
      const Scatter<T, A> own{step,
                              line,
                              steps,
                              length,
                              p.index.data<int32_t>() + at[0],
                              p.source.data<T>() + at[1],
                              sums + at[2],
                              at[3],
                              lowest,
                              std::min(plan.places, length - lowest),
                              bad};
      if (!alongLines) {
        own.addAcross(begin, end);
        continue;
      }
      for (int64_t i = begin; i < end; ++i) {
        if (plan.parts == 1) {
          own.addLine(i);
        } else {
          own.addPartOfLine(i);
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
      if (xs == 1 && oneIndex(ids + begin * ds, ds, end - begin)) {
        const int64_t id = ids[begin * ds];
        if (id < 0 || id >= length) return bad.record(at[2] + begin);
        std::memcpy(y + begin, source + begin + id * step,
                    static_cast<size_t>(end - begin) * sizeof(T));
        return;
      }
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
      context.pool.forRange(p.y.numel(), 1 << 16, [&](int64_t begin, int64_t end) {
        storeChunk(p.y, begin, end - begin, sums + begin);
      });
    } else {
      copyAll<T>(p.x, p.y, p.y.data<T>(), context.pool);
      scatter<T>(p, p.y.data<T>(), bad, context.pool);
    }
  });
  return bad.status("index", p.index, p.x.shape[p.axis]);
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
