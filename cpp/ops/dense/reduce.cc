#include "cpp/ops/dense/reduce.h"

#include "cpp/cpu/reduction.h"
#include "cpp/ops/check.h"
#include "cpp/ops/dense/reduced_shape.h"

namespace longspan::ops {

Status Reduce::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::axes("axes", axes, x));
  if (kind == ReduceKind::mean) LONGSPAN_RETURN_IF_ERROR(check::floating("x", x));
  y = reducedShape(x, axes, keepDims, isFloating(x.dtype) ? x.dtype : DType::i32);
  return {};
}

// Partial sums of blocks are doubles.
size_t Reduce::workspace(int) const {
  return static_cast<size_t>(cpu::Reduction(x, axes).partials()) * sizeof(double);
}

LONGSPAN_OPERATOR(Reduce, reduce);

}  // namespace longspan::ops
