#include "cpp/ops/dense/concat.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status Concat::validate() {
  const TensorView& first = tensors[0];
  LONGSPAN_RETURN_IF_ERROR(check::axis("axis", axis, first));
  std::array<int64_t, kMaxRank> dims = first.shape;
  for (size_t n = 1; n < tensors.size(); ++n) {
    const TensorView& t = tensors[n];
    const std::string field = "tensors[" + std::to_string(n) + "]";
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype(field.c_str(), t, "tensors[0]", first));
    LONGSPAN_RETURN_IF_ERROR(check::rank(field.c_str(), t, first.rank));
    for (int i = 0; i < first.rank; ++i) {
      if (i != axis && t.shape[i] != first.shape[i]) {
        return Status(Code::shape, field, describe(t),
                      "Beside axis " + std::to_string(axis) +
                          " it must have the shape of tensors[0], which is " + describe(first));
      }
    }
    dims[axis] += t.shape[axis];
  }
  y = TensorView::ofShape(first.dtype, dims.data(), first.rank);
  return {};
}

LONGSPAN_OPERATOR(Concat, concat);

}  // namespace longspan::ops
