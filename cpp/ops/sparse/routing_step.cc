#include "cpp/ops/sparse/routing_step.h"

#include <utility>

#include "cpp/ops/check.h"
#include "cpp/ops/sparse/tokens.h"

namespace longspan::ops {

Status RoutingStep::validate() {
  LONGSPAN_RETURN_IF_ERROR(sparseTokens("q", q));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("k", k, "q", q));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("k", k, "q", q));
  LONGSPAN_RETURN_IF_ERROR(sparseTokens("v", v));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("v", v, "q", q));
  for (const auto& [field, t] : {std::pair{"q", &q}, std::pair{"v", &v}}) {
    if (t->shape[3] <= kMostRoutedDim) continue;
    return Status(Code::shape, field, describe(*t),
                  "Use head dimensions of at most " + std::to_string(kMostRoutedDim));
  }
  const int64_t batch = q.shape[0], heads = q.shape[1], tokens = q.shape[2];
  LONGSPAN_RETURN_IF_ERROR(check::shape("v", v, {batch, heads, tokens, v.shape[3]}));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("counts", counts, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank("counts", counts, 3));
  LONGSPAN_RETURN_IF_ERROR(check::shape("counts", counts, {batch, heads, counts.shape[2]}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("counts", counts));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("keys", keys, "q", q));
  LONGSPAN_RETURN_IF_ERROR(check::rank("keys", keys, 5));
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("keys", keys, {batch, heads, clusters(), window(), q.shape[3]}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("keys", keys));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("values", values, "q", q));
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("values", values, {batch, heads, clusters(), window(), v.shape[3]}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("values", values));
  if (window() < 1) {
    return Status(Code::shape, "keys", describe(keys), "Keep at least one key of each cluster");
  }
  for (const auto& [field, t] :
       {std::pair{"queryClusters", &queryClusters}, std::pair{"keyClusters", &keyClusters}}) {
    LONGSPAN_RETURN_IF_ERROR(check::dtype(field, *t, DType::i32));
    LONGSPAN_RETURN_IF_ERROR(check::shape(field, *t, {batch, heads, tokens}));
    LONGSPAN_RETURN_IF_ERROR(check::contiguous(field, *t));
  }
  LONGSPAN_RETURN_IF_ERROR(check::finite("scale", scale));
  LONGSPAN_RETURN_IF_ERROR(check::finite("selfPenalty", selfPenalty));
  o = TensorView::like(v);
  return {};
}

TensorView RoutingStep::slotRows(const TensorView& rings) {
  TensorView rows = rings;
  rows.rank = 4;
  rows.shape[2] = rings.shape[2] * rings.shape[3];
  rows.shape[3] = rings.shape[4];
  rows.stride[2] = rings.stride[3];
  rows.stride[3] = rings.stride[4];
  return rows;
}

size_t RoutingStep::workspace(int threads) const {
  return cpu::routingStepWorkspaceByLevel()(*this, threads);
}

LONGSPAN_OPERATOR(RoutingStep, routingStep);

}  // namespace longspan::ops
