#include "cpp/ops/dense/optimizer.h"

#include <cmath>

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

DType preciseOf(const TensorView& t) { return t.dtype == DType::f64 ? DType::f64 : DType::f32; }

std::string item(const char* field, size_t i) {
  return std::string(field) + "[" + std::to_string(i) + "]";
}

Status single(const char* field, const TensorView& t) {
  if (t.numel() == 1) return {};
  return Status(Code::shape, field, describe(t), "It must have exactly one element");
}

Status singleFloat(const char* field, const TensorView& t) {
  if (!t.defined()) return {};
  LONGSPAN_RETURN_IF_ERROR(check::floating(field, t));
  return single(field, t);
}

Status allFloating(const char* field, const TensorList& list) {
  for (size_t i = 0; i < list.size(); ++i) {
    LONGSPAN_RETURN_IF_ERROR(check::floating(item(field, i).c_str(), list[i]));
  }
  return {};
}

// One tensor per parameter, of its shape; `precise`: f32, or f64 for f64.
Status beside(const char* field, const TensorList& list, const TensorList& params, bool precise) {
  if (list.size() != params.size()) {
    return Status(
        Code::value, field, "a list of " + std::to_string(list.size()),
        "It must have one tensor for each of the " + std::to_string(params.size()) + " parameters");
  }
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string name = item(field, i), param = item("params", i);
    LONGSPAN_RETURN_IF_ERROR(check::sameShape(name.c_str(), list[i], param.c_str(), params[i]));
    if (precise) {
      LONGSPAN_RETURN_IF_ERROR(check::dtype(name.c_str(), list[i], preciseOf(params[i])));
    } else {
      LONGSPAN_RETURN_IF_ERROR(check::floating(name.c_str(), list[i]));
    }
  }
  return {};
}

Status perStep(const TensorView& lr, const TensorView& step, const TensorView& gradScale,
               const TensorView& skip) {
  LONGSPAN_RETURN_IF_ERROR(singleFloat("lr", lr));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("step", step, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(single("step", step));
  LONGSPAN_RETURN_IF_ERROR(singleFloat("gradScale", gradScale));
  if (!skip.defined()) return {};
  if (!isFloating(skip.dtype) && skip.dtype != DType::i32) {
    return Status(Code::dtype, "skip", describe(skip), "Use f32 or i32");
  }
  return single("skip", skip);
}

Status notNegative(const char* field, double x) {
  LONGSPAN_RETURN_IF_ERROR(check::finite(field, x));
  if (x < 0) return Status(Code::value, field, check::text(x), "Use 0 or more");
  return {};
}

Status belowOne(const char* field, double x) {
  if (x >= 0 && x < 1) return {};
  return Status(Code::value, field, std::isnan(x) ? "NaN" : check::text(x),
                "Use 0 or more, and less than 1");
}

}  // namespace

Status AdamStep::validate() {
  LONGSPAN_RETURN_IF_ERROR(allFloating("params", params));
  LONGSPAN_RETURN_IF_ERROR(beside("grads", grads, params, false));
  LONGSPAN_RETURN_IF_ERROR(beside("means", means, params, true));
  LONGSPAN_RETURN_IF_ERROR(beside("squares", squares, params, true));
  if (!maxSquares.empty()) LONGSPAN_RETURN_IF_ERROR(beside("maxSquares", maxSquares, params, true));
  if (!masters.empty()) LONGSPAN_RETURN_IF_ERROR(beside("masters", masters, params, true));
  LONGSPAN_RETURN_IF_ERROR(perStep(lr, step, gradScale, skip));
  LONGSPAN_RETURN_IF_ERROR(belowOne("beta1", beta1));
  LONGSPAN_RETURN_IF_ERROR(belowOne("beta2", beta2));
  LONGSPAN_RETURN_IF_ERROR(notNegative("eps", eps));
  return notNegative("weightDecay", weightDecay);
}

Status SgdStep::validate() {
  LONGSPAN_RETURN_IF_ERROR(allFloating("params", params));
  LONGSPAN_RETURN_IF_ERROR(beside("grads", grads, params, false));
  if (momentum != 0 || !buffers.empty())
    LONGSPAN_RETURN_IF_ERROR(beside("buffers", buffers, params, true));
  if (!masters.empty()) LONGSPAN_RETURN_IF_ERROR(beside("masters", masters, params, true));
  LONGSPAN_RETURN_IF_ERROR(perStep(lr, step, gradScale, skip));
  LONGSPAN_RETURN_IF_ERROR(notNegative("momentum", momentum));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("dampening", dampening, 0, 1));
  if (nesterov && (momentum == 0 || dampening != 0)) {
    return Status(Code::value, "nesterov", "true", "It needs a momentum above 0 and no dampening");
  }
  return notNegative("weightDecay", weightDecay);
}

Status GradNorm::validate() {
  LONGSPAN_RETURN_IF_ERROR(allFloating("tensors", tensors));
  LONGSPAN_RETURN_IF_ERROR(singleFloat("scale", scale));
  bool wide = false;
  for (const TensorView& t : tensors) wide = wide || t.dtype == DType::f64;
  norm = TensorView::ofShape(wide ? DType::f64 : DType::f32, {});
  nonFinite = TensorView::ofShape(DType::f32, {});
  return {};
}

size_t GradNorm::workspace(int) const {
  return 2 * sizeof(double) * static_cast<size_t>(optimizerPieces(tensors));
}

Status ClipCoefficient::validate() {
  LONGSPAN_RETURN_IF_ERROR(singleFloat("norm", norm));
  LONGSPAN_RETURN_IF_ERROR(singleFloat("scale", scale));
  LONGSPAN_RETURN_IF_ERROR(notNegative("maxNorm", maxNorm));
  coefficient = TensorView::ofShape(preciseOf(norm), {});
  return {};
}

Status ScaleTensors::validate() {
  LONGSPAN_RETURN_IF_ERROR(allFloating("tensors", tensors));
  return singleFloat("factor", factor);
}

Status ClampTensors::validate() {
  LONGSPAN_RETURN_IF_ERROR(allFloating("tensors", tensors));
  return notNegative("limit", limit);
}

LONGSPAN_OPERATOR(AdamStep, adamStep);
LONGSPAN_OPERATOR(SgdStep, sgdStep);
LONGSPAN_OPERATOR(GradNorm, gradNorm);
LONGSPAN_OPERATOR(ClipCoefficient, clipCoefficient);
LONGSPAN_OPERATOR(ScaleTensors, scaleTensors);
LONGSPAN_OPERATOR(ClampTensors, clampTensors);

}  // namespace longspan::ops
