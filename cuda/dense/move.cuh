// Moving elements from one view to another, unchanged.
#pragma once

#include "cuda/element.h"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {

template <class U>
struct Move {
  static constexpr int kViews = 2, kLanes = kLanesOf<U>;
  struct Loaded {
    Vector<U, kLanes> x;
  };
  const U* x;
  U* y;

  __device__ __forceinline__ void load(const Walk<2, kLanes>& walk, const Place<2>& p,
                                       Loaded& l) const {
    loadGroup(walk, p, 0, x, l.x);
  }
  __device__ __forceinline__ void finish(const Walk<2, kLanes>& walk, const Place<2>& p,
                                         Loaded& l) const {
    storeGroup(walk, p, 1, y, l.x);
  }
};

// y = x, of one shape and dtype; defined in copy.cu.
Status moveElements(const TensorView& x, const TensorView& y, Context& context);
// The same with whatever dtypes.
Status convertElements(const TensorView& x, const TensorView& y, Context& context);

}  // namespace longspan::cuda
