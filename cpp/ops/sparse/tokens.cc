#include "cpp/ops/sparse/tokens.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status sparseTokens(const char* field, const TensorView& x) {
  LONGSPAN_RETURN_IF_ERROR(check::floating(field, x));
  LONGSPAN_RETURN_IF_ERROR(check::rank(field, x, 4));
  if (x.shape[0] * x.shape[1] * x.shape[2] >= int64_t{1} << 31) {
    return Status(Code::shape, field, describe(x),
                  "Use fewer than 2^31 tokens of all heads at a time: indices are i32");
  }
  if (x.shape[3] >= 1 && x.shape[3] <= kMostDim) return {};
  return Status(Code::shape, field, describe(x),
                "Vectors have from 1 to " + std::to_string(kMostDim) + " elements");
}

Status sparseLengths(const char* field, const TensorView& lengths, const TensorView& x) {
  if (!lengths.defined()) return {};
  LONGSPAN_RETURN_IF_ERROR(check::dtype(field, lengths, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::shape(field, lengths, {x.shape[0]}));
  return check::contiguous(field, lengths);
}

size_t projectionWorkspace(const TensorView& x, int64_t columns, int threads) {
  const size_t element = x.dtype == DType::f64 ? sizeof(double) : sizeof(float);
  return static_cast<size_t>(x.shape[3] * (columns + threads * kMostTileTokens)) * element;
}

}  // namespace longspan::ops
