#include "cpp/ops/dense/binary.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Binary::validate() {
  if (!a.defined() && !b.defined()) {
    return Status(Code::value, "a", "a number like 'b'", "Pass a tensor for one of them");
  }
  const TensorView& some = a.defined() ? a : b;
  if (kind == BinaryKind::div || kind == BinaryKind::pow) {
    LONGSPAN_RETURN_IF_ERROR(check::floating(a.defined() ? "a" : "b", some));
  } else if (!isFloating(some.dtype) && some.dtype != DType::i32) {
    return Status(Code::dtype, a.defined() ? "a" : "b", describe(some),
                  "Use a float or i32; tensor.to(dtype) converts");
  }
  if (a.defined() && b.defined()) LONGSPAN_RETURN_IF_ERROR(check::sameDtype("b", b, "a", a));
  if (!(a.defined() && b.defined())) {
    LONGSPAN_RETURN_IF_ERROR(check::representable(a.defined() ? "b" : "a", value, some.dtype));
  }
  return check::broadcast("a", a, "b", b, some.dtype, y);
}

LONGSPAN_OPERATOR(Binary, binary);

}  // namespace longspan::ops
