// A tensor seen as slices along a group of axes: where a slice begins, and how it is laid out.
#pragma once

#include "cpp/core/tensor_view.h"

namespace longspan::cpu {

// The view that remains when axes [axis, axis + count) are fixed at 0.
inline TensorView sliceLayout(const TensorView& t, int64_t axis, int count) {
  TensorView v = t;
  v.rank = static_cast<int8_t>(t.rank - count);
  for (int64_t i = axis; i < v.rank; ++i) {
    v.shape[i] = t.shape[i + count];
    v.stride[i] = t.stride[i + count];
  }
  return v;
}

// Offset of element `index`, row-major, of axes [axis, axis + count).
inline int64_t offsetAlong(const TensorView& t, int64_t axis, int count, int64_t index) {
  int64_t offset = 0;
  for (int64_t i = axis + count - 1; i >= axis; --i) {
    offset += index % t.shape[i] * t.stride[i];
    index /= t.shape[i];
  }
  return offset;
}

}  // namespace longspan::cpu
