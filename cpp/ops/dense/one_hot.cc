#include "cpp/ops/dense/one_hot.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status OneHot::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::dtype("ids", ids, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("dtype", static_cast<double>(dtype), 0, kDTypeCount - 1));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("classes", static_cast<double>(classes), 1, 0x1p31 - 1));
  std::vector<int64_t> dims(ids.shape.begin(), ids.shape.begin() + ids.rank);
  dims.push_back(classes);
  LONGSPAN_RETURN_IF_ERROR(check::extents("ids", dims));
  y = TensorView::ofShape(static_cast<DType>(dtype), dims.data(), static_cast<int>(dims.size()));
  return {};
}

LONGSPAN_OPERATOR(OneHot, oneHot);

}  // namespace longspan::ops
