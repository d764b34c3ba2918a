// One side of a diagonal of each matrix: the result is written once, and only what is kept is read.
// H200: 85 % of copy speed. Not yet run on hardware.
#include "cpp/ops/dense/triangle.h"
#include "cuda/element.h"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

template <class U>
struct Side {
  static constexpr int kViews = 2, kLanes = kLanesOf<U>;
  struct Loaded {
    Vector<U, kLanes> x;
    bool kept[kLanes];
  };
  const U* x;
  U* y;
  int64_t rows, columns, diagonal;
  bool upper;

  __device__ __forceinline__ void load(const Walk<2, kLanes>& walk, const Place<2>& p,
                                       Loaded& l) const {
    const int64_t line = p.index / columns;
    int64_t column = p.index - line * columns, row = line % rows;
    bool any = false;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      const int64_t beyond = column - row - diagonal;  // 0 on the diagonal
      l.kept[i] = upper ? beyond >= 0 : beyond <= 0;
      any = any || l.kept[i];
      if (++column == columns) {  // a group may reach into the next rows
        column = 0;
        row = row + 1 == rows ? 0 : row + 1;
      }
    }
    if (any) loadGroup(walk, p, 0, x, l.x);
  }
  __device__ __forceinline__ void finish(const Walk<2, kLanes>& walk, const Place<2>& p,
                                         Loaded& l) const {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      if (!l.kept[i]) l.x.at[i] = U{0};
    }
    storeGroup(walk, p, 1, y, l.x);
  }
};

}  // namespace

Status triangle(const ops::Triangle& p, Context& context) {
  return withElement(p.y.dtype, [&](auto tag) {
    using U = typename decltype(tag)::type;
    const Side<U> side{p.x.data<U>(), p.y.data<U>(), p.x.dim(-2), p.x.dim(-1), p.diagonal, p.upper};
    return elementwise<1>(side, {&p.x, &p.y}, context);
  });
}

LONGSPAN_CUDA_OPERATOR(Triangle, triangle);

}  // namespace longspan::cuda
