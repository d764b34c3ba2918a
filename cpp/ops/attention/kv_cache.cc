#include "cpp/ops/attention/kv_cache.h"

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

Status cache(const TensorView& keys, const TensorView& values, const TensorView& lengths) {
  LONGSPAN_RETURN_IF_ERROR(check::floating("keys", keys));
  LONGSPAN_RETURN_IF_ERROR(check::rank("keys", keys, 4));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("values", values, "keys", keys));
  LONGSPAN_RETURN_IF_ERROR(check::rank("values", values, 4));
  LONGSPAN_RETURN_IF_ERROR(check::shape(
      "values", values, {keys.shape[0], keys.shape[1], keys.shape[2], values.shape[3]}));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("lengths", lengths, DType::i32));
  return check::shape("lengths", lengths, {keys.shape[0]});
}

}  // namespace

Status KvCacheAppend::validate() {
  LONGSPAN_RETURN_IF_ERROR(cache(keys, values, lengths));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("k", k, "keys", keys));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("v", v, "keys", keys));
  LONGSPAN_RETURN_IF_ERROR(check::rank("k", k, 4));
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("k", k, {keys.shape[0], keys.shape[1], k.shape[2], keys.shape[3]}));
  LONGSPAN_RETURN_IF_ERROR(check::rank("v", v, 4));
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("v", v, {keys.shape[0], keys.shape[1], k.shape[2], values.shape[3]}));
  if (!counts.defined()) return {};
  LONGSPAN_RETURN_IF_ERROR(check::dtype("counts", counts, DType::i32));
  return check::shape("counts", counts, {keys.shape[0]});
}

Status KvCacheTruncate::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::dtype("lengths", lengths, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank("lengths", lengths, 1));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("limits", limits, DType::i32));
  return check::broadcastTo("limits", limits, "lengths", lengths);
}

Status KvCacheReorder::validate() {
  LONGSPAN_RETURN_IF_ERROR(cache(keys, values, lengths));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("indices", indices, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank("indices", indices, 1));
  const int64_t batch = indices.shape[0];
  newKeys = TensorView::ofShape(keys.dtype, {batch, keys.shape[1], keys.shape[2], keys.shape[3]});
  newValues =
      TensorView::ofShape(values.dtype, {batch, values.shape[1], values.shape[2], values.shape[3]});
  newLengths = TensorView::ofShape(DType::i32, {batch});
  return {};
}

LONGSPAN_OPERATOR(KvCacheAppend, kvCacheAppend);
LONGSPAN_OPERATOR(KvCacheTruncate, kvCacheTruncate);
LONGSPAN_OPERATOR(KvCacheReorder, kvCacheReorder);

}  // namespace longspan::ops
