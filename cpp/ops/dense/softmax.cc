#include "cpp/ops/dense/softmax.h"

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

Status axisOf(const TensorView& t, int64_t& axis) {
  LONGSPAN_RETURN_IF_ERROR(check::rankAtLeast("x", t, 1));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("axis", static_cast<double>(axis), -t.rank, t.rank - 1));
  if (axis < 0) axis += t.rank;
  return {};
}

// Two rows per thread.
size_t scratch(const TensorView& t, int64_t axis, int threads) {
  const size_t element = t.dtype == DType::f64 ? sizeof(double) : sizeof(float);
  return element * 2 * static_cast<size_t>(t.shape[axis]) * static_cast<size_t>(threads);
}

}  // namespace

Status SoftmaxFields::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("x", x));
  LONGSPAN_RETURN_IF_ERROR(axisOf(x, axis));
  y = TensorView::like(x);
  return {};
}

Status SoftmaxBackwardFields::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("y", y));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("gradY", gradY, "y", y));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("gradY", gradY, "y", y));
  LONGSPAN_RETURN_IF_ERROR(axisOf(y, axis));
  gradX = TensorView::like(y);
  return {};
}

size_t SoftmaxFields::workspace(int threads) const { return scratch(x, axis, threads); }
size_t SoftmaxBackwardFields::workspace(int threads) const { return scratch(y, axis, threads); }

LONGSPAN_OPERATOR(Softmax, softmax);
LONGSPAN_OPERATOR(SoftmaxBackward, softmaxBackward);
LONGSPAN_OPERATOR(LogSoftmax, logSoftmax);
LONGSPAN_OPERATOR(LogSoftmaxBackward, logSoftmaxBackward);

}  // namespace longspan::ops
