#include "cpp/ops/dense/extremum.h"

#include "cpp/cpu/reduction.h"
#include "cpp/ops/check.h"
#include "cpp/ops/dense/reduced_shape.h"

namespace longspan::ops {

Status Extremum::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::axes("axes", axes, x));
  double count = 1;
  for (int64_t axis : axes) {
    if (x.shape[axis] == 0) {
      return Status(Code::shape, "x", describe(x),
                    "An empty axis has no extreme element; reduce axes of length 1 or more");
    }
    count *= static_cast<double>(x.shape[axis]);
  }
  if (count >= 0x1p31) {
    return Status(Code::shape, "x", describe(x),
                  "Reduce fewer than 2^31 elements to one: indices are i32");
  }
  if (wantValue) y = reducedShape(x, axes, keepDims, x.dtype);
  if (wantIndex) index = reducedShape(x, axes, keepDims, DType::i32);
  return {};
}

// Per block: the extreme value as a double, then its index as i32.
size_t Extremum::workspace(int) const {
  return static_cast<size_t>(cpu::Reduction(x, axes).partials()) *
         (sizeof(double) + sizeof(int32_t));
}

Status ExtremumBackward::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("gradY", gradY));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("index", index, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("index", index));
  LONGSPAN_RETURN_IF_ERROR(check::extents("shape", shape));
  gradX = TensorView::ofShape(gradY.dtype, shape.data(), static_cast<int>(shape.size()));
  LONGSPAN_RETURN_IF_ERROR(check::axes("axes", axes, gradX));
  const int64_t outputs = reducedShape(gradX, axes, false, gradY.dtype).numel();
  if (index.numel() != outputs || gradY.numel() != outputs) {
    return Status(Code::shape, "gradY", describe(gradY),
                  "It must have the shape of the reduced result");
  }
  return {};
}

LONGSPAN_OPERATOR(Extremum, extremum);
LONGSPAN_OPERATOR(ExtremumBackward, extremumBackward);

}  // namespace longspan::ops
