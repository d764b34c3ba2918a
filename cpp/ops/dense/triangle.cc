#include "cpp/ops/dense/triangle.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Triangle::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::rankAtLeast("x", x, 2));
  y = TensorView::like(x);
  return {};
}

LONGSPAN_OPERATOR(Triangle, triangle);

}  // namespace longspan::ops
