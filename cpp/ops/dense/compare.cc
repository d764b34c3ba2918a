#include "cpp/ops/dense/compare.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Compare::validate() {
  if (!a.defined() && !b.defined()) {
    return Status(Code::value, "a", "a number like 'b'", "Pass a tensor for one of them");
  }
  if (a.defined() && b.defined()) LONGSPAN_RETURN_IF_ERROR(check::sameDtype("b", b, "a", a));
  return check::broadcast("a", a, "b", b, DType::u8, y);
}

LONGSPAN_OPERATOR(Compare, compare);

}  // namespace longspan::ops
