#include "cpp/ops/dense/sort.h"

#include <algorithm>

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

Status sortable(const TensorView& x, int64_t axis) {
  LONGSPAN_RETURN_IF_ERROR(check::axis("axis", axis, x));
  if (x.shape[axis] >= int64_t{1} << 31) {
    return Status(Code::shape, "x", describe(x), "Sort fewer than 2^31 elements: indices are i32");
  }
  return {};
}

}  // namespace

Status Sort::validate() {
  LONGSPAN_RETURN_IF_ERROR(sortable(x, axis));
  values = TensorView::like(x);
  indices = TensorView::like(x, DType::i32);
  return {};
}

// Two arrays of 16-byte records per thread.
size_t Sort::workspace(int threads) const {
  return static_cast<size_t>(threads) * static_cast<size_t>(x.shape[axis]) * 32;
}

Status TopK::validate() {
  LONGSPAN_RETURN_IF_ERROR(sortable(x, axis));
  LONGSPAN_RETURN_IF_ERROR(
      check::inRange("k", static_cast<double>(k), 0, static_cast<double>(x.shape[axis])));
  std::array<int64_t, kMaxRank> dims = x.shape;
  dims[axis] = k;
  values = TensorView::ofShape(x.dtype, dims.data(), x.rank);
  indices = TensorView::ofShape(DType::i32, dims.data(), x.rank);
  return {};
}

int64_t TopK::candidates() const { return std::min(x.shape[axis], std::max<int64_t>(2 * k, 64)); }

size_t TopK::workspace(int threads) const {
  return static_cast<size_t>(threads) * static_cast<size_t>(candidates()) * 16;
}

LONGSPAN_OPERATOR(Sort, sort);
LONGSPAN_OPERATOR(TopK, topK);

}  // namespace longspan::ops
