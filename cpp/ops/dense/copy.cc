#include "cpp/ops/dense/copy.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Copy::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::inRange("dtype", static_cast<double>(dtype), 0, kDTypeCount - 1));
  y = TensorView::like(x, static_cast<DType>(dtype));
  return {};
}

Status Assign::validate() { return check::broadcastTo("x", x, "y", y); }

LONGSPAN_OPERATOR(Copy, copy);
LONGSPAN_OPERATOR(Assign, assign);

}  // namespace longspan::ops
