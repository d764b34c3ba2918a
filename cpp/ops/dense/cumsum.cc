#include "cpp/ops/dense/cumsum.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Cumsum::validate() {
  if (x.dtype != DType::i32) LONGSPAN_RETURN_IF_ERROR(check::floating("x", x));
  LONGSPAN_RETURN_IF_ERROR(check::axis("axis", axis, x));
  y = TensorView::like(x);
  return {};
}

LONGSPAN_OPERATOR(Cumsum, cumsum);

}  // namespace longspan::ops
