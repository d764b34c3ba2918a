#include "cpp/ops/dense/dropout.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Dropout::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("x", x));
  LONGSPAN_RETURN_IF_ERROR(check::generatorState("state", state));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("p", p, 0, 1));
  y = TensorView::like(x);
  return {};
}

LONGSPAN_OPERATOR(Dropout, dropout);

}  // namespace longspan::ops
