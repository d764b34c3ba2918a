// The shape of a reduction's result.
#pragma once

#include <vector>

#include "cpp/core/tensor_view.h"

namespace longspan::ops {

inline bool contains(const std::vector<int64_t>& axes, int64_t axis) {
  for (int64_t a : axes) {
    if (a == axis) return true;
  }
  return false;
}

inline TensorView reducedShape(const TensorView& x, const std::vector<int64_t>& axes, bool keepDims,
                               DType dtype) {
  std::array<int64_t, kMaxRank> dims{};
  int rank = 0;
  for (int i = 0; i < x.rank; ++i) {
    if (!contains(axes, i)) {
      dims[rank++] = x.shape[i];
    } else if (keepDims) {
      dims[rank++] = 1;
    }
  }
  return TensorView::ofShape(dtype, dims.data(), rank);
}

}  // namespace longspan::ops
