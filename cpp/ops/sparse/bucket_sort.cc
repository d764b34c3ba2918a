#include "cpp/ops/sparse/bucket_sort.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status BucketSort::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::dtype("groups", groups, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rankAtLeast("groups", groups, 1));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("count", static_cast<double>(count), 1, 0x1p24));
  const int64_t n = length(), lines = n == 0 ? 0 : groups.numel() / n;
  if (groups.numel() >= int64_t{1} << 31 || lines * (count + 1) >= int64_t{1} << 31) {
    return Status(Code::shape, "groups", describe(groups),
                  "Sort fewer than 2^31 elements into fewer than 2^31 groups at a time: indices "
                  "are i32");
  }
  order = TensorView::like(groups);
  if (withInverse) inverse = TensorView::like(groups);
  std::array<int64_t, kMaxRank> dims = groups.shape;
  dims[groups.rank - 1] = count + 1;
  offsets = TensorView::ofShape(DType::i32, dims.data(), groups.rank);
  return {};
}

// The next free place of each group, per thread.
size_t BucketSort::workspace(int threads) const {
  return static_cast<size_t>(threads) * static_cast<size_t>(count + 1) * sizeof(int32_t);
}

LONGSPAN_OPERATOR(BucketSort, bucketSort);

}  // namespace longspan::ops
