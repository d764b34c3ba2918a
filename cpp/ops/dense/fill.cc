#include "cpp/ops/dense/fill.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Fill::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::inRange("dtype", static_cast<double>(dtype), 0, kDTypeCount - 1));
  LONGSPAN_RETURN_IF_ERROR(check::extents("shape", shape));
  LONGSPAN_RETURN_IF_ERROR(check::representable("value", value, static_cast<DType>(dtype)));
  y = TensorView::ofShape(static_cast<DType>(dtype), shape.data(), static_cast<int>(shape.size()));
  return {};
}

LONGSPAN_OPERATOR(Fill, fill);

}  // namespace longspan::ops
