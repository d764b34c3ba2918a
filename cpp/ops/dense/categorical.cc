#include "cpp/ops/dense/categorical.h"

#include <cmath>

#include "cpp/ops/check.h"
#include "cpp/ops/dense/random.h"

namespace longspan::ops {

Status Categorical::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("logits", logits));
  LONGSPAN_RETURN_IF_ERROR(check::rankAtLeast("logits", logits, 1));
  if (logits.dim(-1) == 0) {
    return Status(Code::shape, "logits", describe(logits),
                  "The last axis, the classes, must not be empty");
  }
  LONGSPAN_RETURN_IF_ERROR(check::generatorState("state", state));
  LONGSPAN_RETURN_IF_ERROR(check::finite("temperature", temperature));
  if (temperature < 0)
    return Status(Code::value, "temperature", check::text(temperature), "Use 0 or more");
  if (topK < 0)
    return Status(Code::value, "topK", std::to_string(topK), "Use 0 for all classes, or more");
  if (!(topP > 0 && topP <= 1)) {
    return Status(Code::value, "topP", std::isnan(topP) ? "NaN" : check::text(topP),
                  "Use a number above 0 and up to 1");
  }
  ids = TensorView::ofShape(DType::i32, logits.shape.data(), logits.rank - 1);
  return {};
}

size_t Categorical::workspace(int threads) const {
  return static_cast<size_t>(threads) * static_cast<size_t>(logits.dim(-1)) * 2 * sizeof(double);
}

LONGSPAN_OPERATOR(Categorical, categorical);

}  // namespace longspan::ops
