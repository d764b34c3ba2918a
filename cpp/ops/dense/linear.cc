#include "cpp/ops/dense/linear.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Linear::validate() {
  const TensorView &x = product.a, &weight = product.b;
  LONGSPAN_RETURN_IF_ERROR(check::floating("x", x));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("weight", weight, "x", x));
  LONGSPAN_RETURN_IF_ERROR(check::rank("weight", weight, 2));
  if (x.rank < 2) {
    return Status(Code::rank, "x", describe(x),
                  "It must have shape [..., in]: unsqueeze() a single row");
  }
  if (x.dim(-1) != weight.dim(1)) {
    return Status(Code::shape, "x", describe(x),
                  "Its last axis must be as long as that of 'weight' [out, in], which is " +
                      describe(weight));
  }
  product.transposeB = true;
  return product.validate();
}

LONGSPAN_OPERATOR(Linear, linear);

}  // namespace longspan::ops
