#include "cpp/ops/dense/cross_entropy.h"

#include <cmath>

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

Status inputs(const TensorView& logits, const TensorView& targets, double smoothing, double zLoss) {
  LONGSPAN_RETURN_IF_ERROR(check::floating("logits", logits));
  LONGSPAN_RETURN_IF_ERROR(check::rankAtLeast("logits", logits, 1));
  if (logits.dim(-1) == 0) {
    return Status(Code::shape, "logits", describe(logits),
                  "The last axis, the classes, must not be empty");
  }
  LONGSPAN_RETURN_IF_ERROR(check::dtype("targets", targets, DType::i32));
  bool fits = targets.rank == logits.rank - 1;
  for (int i = 0; fits && i < targets.rank; ++i) fits = targets.shape[i] == logits.shape[i];
  if (!fits) {
    return Status(
        Code::shape, "targets", describe(targets),
        std::string("It must have the shape of 'logits' without its last axis; that is ") +
            describe(logits));
  }
  LONGSPAN_RETURN_IF_ERROR(check::inRange("smoothing", smoothing, 0, 1));
  LONGSPAN_RETURN_IF_ERROR(check::finite("zLoss", zLoss));
  return {};
}

}  // namespace

Status CrossEntropy::validate() {
  LONGSPAN_RETURN_IF_ERROR(inputs(logits, targets, smoothing, zLoss));
  lse = TensorView::like(targets, accumulatorOf(logits.dtype));
  count = TensorView::ofShape(lse.dtype, {});
  loss = reduction == Reduction::none ? TensorView::like(lse) : TensorView::like(count);
  return {};
}

size_t CrossEntropy::workspace(int) const {
  return static_cast<size_t>(targets.numel()) * sizeOf(accumulatorOf(logits.dtype));
}

Status CrossEntropyBackward::validate() {
  LONGSPAN_RETURN_IF_ERROR(inputs(logits, targets, smoothing, zLoss));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("lse", lse, accumulatorOf(logits.dtype)));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("lse", lse, "targets", targets));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("lse", lse));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("count", count, lse.dtype));
  LONGSPAN_RETURN_IF_ERROR(check::shape("count", count, {}));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("gradLoss", gradLoss, lse.dtype));
  LONGSPAN_RETURN_IF_ERROR(reduction == Reduction::none
                               ? check::sameShape("gradLoss", gradLoss, "targets", targets)
                               : check::shape("gradLoss", gradLoss, {}));
  gradLogits = TensorView::like(logits);
  return {};
}

WantedDistribution wantedDistribution(double smoothing, SmoothingOver over, int64_t ignoreIndex,
                                      int64_t classes) {
  const double confidence = 1 - smoothing;
  if (over == SmoothingOver::all) {
    const double each = smoothing / static_cast<double>(classes);
    return {each, confidence, 0, 0};
  }
  const bool ignored = ignoreIndex >= 0 && ignoreIndex < classes;
  const int64_t others = classes - 1 - (ignored ? 1 : 0);
  const double each = others > 0 ? smoothing / static_cast<double>(others) : 0;
  const auto term = [](double q) { return q > 0 ? q * std::log(q) : 0; };
  return {each, confidence - each, ignored ? -each : 0,
          term(confidence) + static_cast<double>(others) * term(each)};
}

LONGSPAN_OPERATOR(CrossEntropy, crossEntropy);
LONGSPAN_OPERATOR(CrossEntropyBackward, crossEntropyBackward);

}  // namespace longspan::ops
