#include "cpp/ops/dense/where.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Where::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::dtype("condition", condition, DType::u8));
  if (!a.defined() && !b.defined()) {
    return Status(Code::value, "a", "a number like 'b'", "Pass a tensor for one of them");
  }
  if (a.defined() && b.defined()) LONGSPAN_RETURN_IF_ERROR(check::sameDtype("b", b, "a", a));
  const DType dtype = a.defined() ? a.dtype : b.dtype;
  if (!a.defined()) LONGSPAN_RETURN_IF_ERROR(check::representable("a", valueA, dtype));
  if (!b.defined()) LONGSPAN_RETURN_IF_ERROR(check::representable("b", valueB, dtype));
  TensorView both;
  LONGSPAN_RETURN_IF_ERROR(check::broadcast("a", a, "b", b, dtype, both));
  LONGSPAN_RETURN_IF_ERROR(
      check::broadcast("condition", condition, a.defined() ? "a" : "b", both, dtype, y));
  if (a.defined()) LONGSPAN_RETURN_IF_ERROR(check::broadcastTo("a", a, "condition", y));
  if (b.defined()) LONGSPAN_RETURN_IF_ERROR(check::broadcastTo("b", b, "condition", y));
  return {};
}

LONGSPAN_OPERATOR(Where, where);

}  // namespace longspan::ops
