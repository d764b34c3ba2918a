#include "cpp/ops/sparse/lsh_step.h"

#include "cpp/ops/attention/problem.h"
#include "cpp/ops/check.h"

namespace longspan::ops {

int64_t LshStep::reach() const { return back < slots() / chunk ? (back + 1) * chunk : slots(); }

Status LshStep::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("q", q));
  LONGSPAN_RETURN_IF_ERROR(check::rank("q", q, 4));
  const int64_t batch = q.shape[0], heads = q.shape[1], tokens = q.shape[2];
  LONGSPAN_RETURN_IF_ERROR(check::dtype("lists", lists, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank("lists", lists, 5));
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("lists", lists, {batch, heads, rounds(), bucketCount(), slots()}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("lists", lists));
  if (rounds() < 1 || slots() < 1) {
    return Status(Code::shape, "lists", describe(lists),
                  "List at least one token of each bucket, in one round or more");
  }
  LONGSPAN_RETURN_IF_ERROR(check::dtype("counts", counts, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::shape("counts", counts, {batch, heads, rounds(), bucketCount()}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("counts", counts));
  const struct {
    const char* field;
    const TensorView& rows;
  } cached[] = {{"keys", keys}, {"values", values}};
  for (const auto& [field, rows] : cached) {
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype(field, rows, "q", q));
    LONGSPAN_RETURN_IF_ERROR(check::rank(field, rows, 4));
    if (rows.shape[3] >= 1 && rows.shape[3] <= kMaxHeadDim) continue;
    return Status(Code::shape, field, describe(rows),
                  "Use head dimensions of at most " + std::to_string(kMaxHeadDim));
  }
  LONGSPAN_RETURN_IF_ERROR(check::shape("keys", keys, {batch, heads, capacity(), q.shape[3]}));
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("values", values, {batch, heads, capacity(), values.shape[3]}));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("lengths", lengths, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::shape("lengths", lengths, {batch}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("lengths", lengths));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("buckets", buckets, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::shape("buckets", buckets, {batch, heads, rounds(), tokens}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("buckets", buckets));
  if (chunk < 1 || back < 0) {
    return Status(Code::value, chunk < 1 ? "chunk" : "back",
                  std::to_string(chunk < 1 ? chunk : back),
                  chunk < 1 ? "Use a whole number from 1 on" : "Use a whole number from 0 on");
  }
  if (back >= slots() / chunk && slots() < capacity()) {
    return Status(Code::shape, "lists", describe(lists),
                  "List (back + 1) chunks of each bucket, or as many tokens as the cache holds");
  }
  LONGSPAN_RETURN_IF_ERROR(check::finite("scale", scale));
  LONGSPAN_RETURN_IF_ERROR(check::finite("selfPenalty", selfPenalty));
  if (attends) o = TensorView::ofShape(q.dtype, {batch, heads, tokens, values.shape[3]});
  return {};
}

size_t LshStep::workspace(int threads) const {
  return cpu::lshStepWorkspaceByLevel()(*this, threads);
}

LONGSPAN_OPERATOR(LshStep, lshStep);

}  // namespace longspan::ops
