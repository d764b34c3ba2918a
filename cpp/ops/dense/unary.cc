#include "cpp/ops/dense/unary.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Unary::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("x", x));
  y = TensorView::like(x);
  return {};
}

Status UnaryBackward::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("saved", saved));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("gradY", gradY, "saved", saved));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("gradY", gradY, "saved", saved));
  gradX = TensorView::like(saved);
  return {};
}

LONGSPAN_OPERATOR(Unary, unary);
LONGSPAN_OPERATOR(UnaryBackward, unaryBackward);

}  // namespace longspan::ops
