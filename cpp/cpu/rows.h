// A tensor as rows along one axis, and rows as arrays of the type arithmetic is done in.
#pragma once

#include <array>

#include "cpp/core/half.h"
#include "cpp/core/tensor_view.h"
#ifdef LONGSPAN_LEVEL
#include "cpp/cpu/chunk.h"
#endif

namespace longspan::cpu {

// The positions of all rows along `axis`, in row-major order of the other axes.
struct Rows {
  int64_t count = 1;
  int64_t length = 1;
  int64_t step = 1;  // elements between neighbours within a row
  int rank = 0;
  std::array<int64_t, kMaxRank> shape{};
  std::array<int64_t, kMaxRank> stride{};

  explicit Rows(const TensorView& t, int axis = -1) {
    if (t.rank == 0) return;
    if (axis < 0) axis += t.rank;
    length = t.shape[axis];
    step = t.stride[axis];
    for (int i = 0; i < t.rank; ++i) {
      if (i == axis || t.shape[i] == 1) continue;
      count *= t.shape[i];
      // An axis that continues the one before it makes one longer axis with it.
      if (rank > 0 && stride[rank - 1] == t.stride[i] * t.shape[i]) {
        shape[rank - 1] *= t.shape[i];
      } else {
        shape[rank++] = t.shape[i];
      }
      stride[rank - 1] = t.stride[i];
    }
  }

  // Elements from the tensor's first one to the start of row `index`.
  int64_t at(int64_t index) const {
    int64_t offset = 0;
    for (int i = rank - 1; i > 0; --i) {
      offset += index % shape[i] * stride[i];
      index /= shape[i];
    }
    return rank > 0 ? offset + index * stride[0] : 0;
  }
};

#ifdef LONGSPAN_LEVEL
namespace LONGSPAN_LEVEL {

// out[i] = t[at + i * step], converted.
template <class A>
inline void loadRow(const TensorView& t, int64_t at, int64_t step, int64_t n, A* out) {
  dispatchFloating(t.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    widen(t.data<T>() + at, step, n, out);
  });
}

// t[at + i * step] = row[i], rounded to the tensor's dtype.
template <class A>
inline void storeRow(const TensorView& t, int64_t at, int64_t step, int64_t n, const A* row) {
  roundChunk(t, at, n, row, step);
}

// The row itself where it already is what arithmetic needs, else a copy in `scratch`.
template <class A>
inline const A* rowOf(const TensorView& t, int64_t at, int64_t step, int64_t n, A* scratch) {
  if (t.dtype == dtypeOf<A>() && step == 1) return t.data<A>() + at;
  loadRow(t, at, step, n, scratch);
  return scratch;
}

// Any stretch of a tensor's elements in row-major order, whatever its strides.
struct Elements {
  TensorView t;
  Rows rows;
  bool dense;

  explicit Elements(const TensorView& view) : t(view), rows(view), dense(view.contiguous()) {}

  // f(position in the tensor, step, elements done before, elements) for the pieces of one row each.
  template <class F>
  void pieces(int64_t first, int64_t count, F&& f) const {
    if (dense) return f(first, int64_t{1}, int64_t{0}, count);
    for (int64_t done = 0; done < count;) {
      const int64_t row = (first + done) / rows.length, column = (first + done) % rows.length;
      const int64_t n = count - done < rows.length - column ? count - done : rows.length - column;
      f(rows.at(row) + column * rows.step, rows.step, done, n);
      done += n;
    }
  }
  template <class A>
  void load(int64_t first, int64_t count, A* out) const {
    pieces(first, count, [&](int64_t at, int64_t step, int64_t done, int64_t n) {
      loadRow(t, at, step, n, out + done);
    });
  }
  // The stretch where it lies when it is dense and of arithmetic type, else a copy in `scratch`,
  // which close() writes back.
  template <class A>
  A* open(int64_t first, int64_t count, A* scratch) const {
    if (dense && t.dtype == dtypeOf<A>()) return t.data<A>() + first;
    load(first, count, scratch);
    return scratch;
  }
  template <class A>
  void close(int64_t first, int64_t count, const A* stretch, const A* scratch) const {
    if (stretch == scratch) store(first, count, stretch);
  }
  template <class A>
  void store(int64_t first, int64_t count, const A* from) const {
    pieces(first, count, [&](int64_t at, int64_t step, int64_t done, int64_t n) {
      storeRow(t, at, step, n, from + done);
    });
  }
};

// Calls f(A{}) with the type arithmetic on `dtype` is done in.
template <class F>
inline void withAccumulator(DType dtype, F&& f) {
  if (dtype == DType::f64) {
    f(double{});
  } else {
    f(float{});
  }
}

}  // namespace LONGSPAN_LEVEL
#endif

}  // namespace longspan::cpu
