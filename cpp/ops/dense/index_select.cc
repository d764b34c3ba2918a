#include "cpp/ops/dense/index_select.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status IndexSelect::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::axis("axis", axis, x));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("ids", ids, DType::i32));
  std::vector<int64_t> dims(x.shape.begin(), x.shape.begin() + axis);
  dims.insert(dims.end(), ids.shape.begin(), ids.shape.begin() + ids.rank);
  dims.insert(dims.end(), x.shape.begin() + axis + 1, x.shape.begin() + x.rank);
  LONGSPAN_RETURN_IF_ERROR(check::extents("ids", dims));
  y = TensorView::ofShape(x.dtype, dims.data(), static_cast<int>(dims.size()));
  return {};
}

Status IndexSelectBackward::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("gradY", gradY));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("ids", ids, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(
      check::inRange("axis", static_cast<double>(axis), 0, gradY.rank - ids.rank));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("length", static_cast<double>(length), 0, 0x1p31 - 1));
  for (int i = 0; i < ids.rank; ++i) {
    if (gradY.shape[axis + i] != ids.shape[i]) {
      return Status(Code::shape, "gradY", describe(gradY),
                    "It must hold the axes of 'ids', " + describe(ids));
    }
  }
  if (ids.numel() >= int64_t{1} << 31) {
    return Status(Code::shape, "ids", describe(ids), "Use fewer than 2^31 ids");
  }
  std::vector<int64_t> dims(gradY.shape.begin(), gradY.shape.begin() + axis);
  dims.push_back(length);
  dims.insert(dims.end(), gradY.shape.begin() + axis + ids.rank, gradY.shape.begin() + gradY.rank);
  LONGSPAN_RETURN_IF_ERROR(check::extents("gradY", dims));
  gradX = TensorView::ofShape(gradY.dtype, dims.data(), static_cast<int>(dims.size()));
  return {};
}

// Where the positions of each id begin, and the positions sorted by id.
size_t IndexSelectBackward::workspace(int) const {
  return static_cast<size_t>(length + 1 + ids.numel()) * sizeof(int32_t);
}

LONGSPAN_OPERATOR(IndexSelect, indexSelect);
LONGSPAN_OPERATOR(IndexSelectBackward, indexSelectBackward);

}  // namespace longspan::ops
