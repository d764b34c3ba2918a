#include "cpp/ops/attention/kv_cache.h"

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

Status cache(const TensorView& keys, const TensorView& values, const TensorView& lengths,
             const TensorView& pageTable = {}) {
  LONGSPAN_RETURN_IF_ERROR(check::floating("keys", keys));
  LONGSPAN_RETURN_IF_ERROR(check::rank("keys", keys, 4));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("values", values, "keys", keys));
  LONGSPAN_RETURN_IF_ERROR(check::rank("values", values, 4));
  LONGSPAN_RETURN_IF_ERROR(check::shape(
      "values", values, {keys.shape[0], keys.shape[1], keys.shape[2], values.shape[3]}));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("lengths", lengths, DType::i32));
  if (!pageTable.defined()) return check::shape("lengths", lengths, {keys.shape[0]});
  LONGSPAN_RETURN_IF_ERROR(check::dtype("pageTable", pageTable, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank("pageTable", pageTable, 2));
  LONGSPAN_RETURN_IF_ERROR(check::shape("lengths", lengths, {pageTable.shape[0]}));
  if (keys.shape[2] >= 1) return {};
  return Status(Code::shape, "keys", describe(keys), "Use pages of one token or more");
}

}  // namespace

Status KvCacheAppend::validate() {
  LONGSPAN_RETURN_IF_ERROR(cache(keys, values, lengths, pageTable));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("k", k, "keys", keys));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("v", v, "keys", keys));
  LONGSPAN_RETURN_IF_ERROR(check::rank("k", k, 4));
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("k", k, {batch(), keys.shape[1], k.shape[2], keys.shape[3]}));
  LONGSPAN_RETURN_IF_ERROR(check::rank("v", v, 4));
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("v", v, {batch(), keys.shape[1], k.shape[2], values.shape[3]}));
  if (counts.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::dtype("counts", counts, DType::i32));
    LONGSPAN_RETURN_IF_ERROR(check::shape("counts", counts, {batch()}));
  }
  if (!rotates) return {};
  LONGSPAN_RETURN_IF_ERROR(turns.check(keys.shape[3]));
  if (!q.defined()) return {};
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("q", q, "keys", keys));
  LONGSPAN_RETURN_IF_ERROR(check::rank("q", q, 4));
  LONGSPAN_RETURN_IF_ERROR(check::shape("q", q, {batch(), q.shape[1], k.shape[2], keys.shape[3]}));
  rotated = TensorView::like(q);
  return {};
}

// For rotation: frequencies in f64, a cosine and a sine per new token and pair, two rows per
// thread.
size_t KvCacheAppend::workspace(int threads) const {
  if (!rotates) return 0;
  const auto half = static_cast<size_t>(turns.dim / 2);
  const auto places = static_cast<size_t>(batch() * k.shape[2]);
  const size_t element = keys.dtype == DType::f64 ? sizeof(double) : sizeof(float);
  return half * sizeof(double) +
         element * 2 *
             (half * places + static_cast<size_t>(keys.shape[3]) * static_cast<size_t>(threads));
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
