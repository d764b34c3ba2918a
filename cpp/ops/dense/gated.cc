#include "cpp/ops/dense/gated.h"

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

Status operands(const TensorView& a, const TensorView& b, TensorView& y) {
  LONGSPAN_RETURN_IF_ERROR(check::floating("a", a));
  y = TensorView::like(a);
  if (b.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype("b", b, "a", a));
    return check::sameShape("b", b, "a", a);
  }
  LONGSPAN_RETURN_IF_ERROR(check::rankAtLeast("a", a, 1));
  if (a.dim(-1) % 2 != 0) {
    return Status(Code::shape, "a", describe(a),
                  "Its last axis holds two halves, so its length must be even");
  }
  std::array<int64_t, kMaxRank> dims = a.shape;
  dims[a.rank - 1] /= 2;
  y = TensorView::ofShape(a.dtype, dims.data(), a.rank);
  return {};
}

}  // namespace

Status Gated::validate() { return operands(a, b, y); }

Status GatedBackward::validate() {
  TensorView y;
  LONGSPAN_RETURN_IF_ERROR(operands(a, b, y));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("gradY", gradY, "a", a));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("gradY", gradY, "the result", y));
  gradA = TensorView::like(a);
  if (b.defined()) gradB = TensorView::like(b);
  return {};
}

LONGSPAN_OPERATOR(Gated, gated);
LONGSPAN_OPERATOR(GatedBackward, gatedBackward);

}  // namespace longspan::ops
