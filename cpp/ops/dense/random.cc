#include "cpp/ops/dense/random.h"

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

Status newTensor(const std::vector<int64_t>& shape, DType dtype, TensorView& y) {
  LONGSPAN_RETURN_IF_ERROR(check::extents("shape", shape));
  y = TensorView::ofShape(dtype, shape.data(), static_cast<int>(shape.size()));
  return {};
}

Status newFloating(const std::vector<int64_t>& shape, int64_t dtype, TensorView& y) {
  LONGSPAN_RETURN_IF_ERROR(check::inRange("dtype", static_cast<double>(dtype), 0, kDTypeCount - 1));
  if (!isFloating(static_cast<DType>(dtype))) {
    return Status(Code::dtype, "dtype", nameOf(static_cast<DType>(dtype)),
                  "Use f32, f16, bf16 or f64");
  }
  return newTensor(shape, static_cast<DType>(dtype), y);
}

}  // namespace

Status AdvanceGenerator::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::generatorState("state", state));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("blocks", static_cast<double>(blocks), 0, 0x1p53));
  used = TensorView::like(state);
  return {};
}

Status Uniform::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::generatorState("state", state));
  LONGSPAN_RETURN_IF_ERROR(check::finite("low", low));
  LONGSPAN_RETURN_IF_ERROR(check::finite("high", high));
  if (high < low) {
    return Status(Code::value, "high", check::text(high),
                  "Use a bound of at least low, " + check::text(low));
  }
  return newFloating(shape, dtype, y);
}

Status Normal::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::generatorState("state", state));
  LONGSPAN_RETURN_IF_ERROR(check::finite("mean", mean));
  LONGSPAN_RETURN_IF_ERROR(check::finite("std", std));
  if (std < 0) return Status(Code::value, "std", check::text(std), "Use 0 or more");
  return newFloating(shape, dtype, y);
}

Status Bernoulli::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::generatorState("state", state));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("p", p, 0, 1));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("dtype", static_cast<double>(dtype), 0, kDTypeCount - 1));
  return newTensor(shape, static_cast<DType>(dtype), y);
}

Status RandInt::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::generatorState("state", state));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("low", static_cast<double>(low), -0x1p31, 0x1p31 - 1));
  LONGSPAN_RETURN_IF_ERROR(
      check::inRange("high", static_cast<double>(high), static_cast<double>(low) + 1, 0x1p31));
  return newTensor(shape, DType::i32, y);
}

Status Permutation::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::generatorState("state", state));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("n", static_cast<double>(n), 0, 0x1p31 - 1));
  y = TensorView::ofShape(DType::i32, {n});
  return {};
}

LONGSPAN_OPERATOR(AdvanceGenerator, advanceGenerator);
LONGSPAN_OPERATOR(Uniform, uniform);
LONGSPAN_OPERATOR(Normal, normal);
LONGSPAN_OPERATOR(Bernoulli, bernoulli);
LONGSPAN_OPERATOR(RandInt, randint);
LONGSPAN_OPERATOR(Permutation, permutation);

}  // namespace longspan::ops
