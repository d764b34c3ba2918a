#include "cpp/ops/dense/gather.h"

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

Status indexed(const TensorView& x, const TensorView& index, int64_t axis) {
  LONGSPAN_RETURN_IF_ERROR(check::axis("axis", axis, x));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("index", index, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank("index", index, x.rank));
  for (int i = 0; i < x.rank; ++i) {
    if (i != axis && index.shape[i] > x.shape[i]) {
      return Status(
          Code::shape, "index", describe(index),
          "Beside the indexed axis it must not be longer than 'x', which is " + describe(x));
    }
  }
  return {};
}

}  // namespace

Status Gather::validate() {
  LONGSPAN_RETURN_IF_ERROR(indexed(x, index, axis));
  y = TensorView::like(index, x.dtype);
  return {};
}

Status ScatterAdd::validate() {
  if (x.dtype != DType::i32) LONGSPAN_RETURN_IF_ERROR(check::floating("x", x));
  LONGSPAN_RETURN_IF_ERROR(indexed(x, index, axis));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("source", source, "x", x));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("source", source, "index", index));
  y = TensorView::like(x);
  return {};
}

// Narrow floats are summed in an f32 image of the result.
size_t ScatterAdd::workspace(int) const {
  return sizeOf(x.dtype) == 2 ? static_cast<size_t>(x.numel()) * sizeof(float) : 0;
}

LONGSPAN_OPERATOR(Gather, gather);
LONGSPAN_OPERATOR(ScatterAdd, scatterAdd);

}  // namespace longspan::ops
