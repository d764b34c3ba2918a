#include "cpp/ops/dense/activation_backward.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

int64_t ActivationBackward::rows() const {
  int64_t n = 1;
  for (int i = 0; i + 1 < gradY.rank; ++i) n *= gradY.shape[i];
  return n;
}

Status ActivationBackward::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("gradY", gradY));
  LONGSPAN_RETURN_IF_ERROR(check::rankAtLeast("gradY", gradY, 1));
  if (activation != Activation::none) {
    if (!kept.defined()) {
      return Status(Code::value, "kept", "absent", "Pass what the activation was applied to");
    }
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype("kept", kept, "gradY", gradY));
    LONGSPAN_RETURN_IF_ERROR(check::sameShape("kept", kept, "gradY", gradY));
    gradX = TensorView::like(gradY);
  }
  if (wantBias) gradBias = TensorView::ofShape(gradY.dtype, {columns()});
  return {};
}

size_t ActivationBackward::workspace(int) const {
  if (!wantBias) return 0;
  return static_cast<size_t>(kChunks * columns()) * (gradY.dtype == DType::f64 ? 8 : 4);
}

LONGSPAN_OPERATOR(ActivationBackward, activationBackward);

}  // namespace longspan::ops
