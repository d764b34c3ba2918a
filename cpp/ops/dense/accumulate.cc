#include "cpp/ops/dense/accumulate.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Accumulate::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("a", a));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("b", b, "a", a));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("b", b, "a", a));
  y = TensorView::like(a);
  return {};
}

LONGSPAN_OPERATOR(Accumulate, accumulate);

}  // namespace longspan::ops
