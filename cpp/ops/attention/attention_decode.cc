#include "cpp/ops/attention/attention_decode.h"

#include <algorithm>

namespace longspan::ops {

Status AttentionDecode::validate() {
  LONGSPAN_RETURN_IF_ERROR(AttentionProblem::check());
  if (splits < 0 || splits > kMostSplits) {
    return Status(Code::value, "splits", std::to_string(splits),
                  "Use 1 to " + std::to_string(kMostSplits) + ", or 0 for what suits the device");
  }
  if (splits > 0 && batchInvariant) {
    return Status(Code::value, "splits", std::to_string(splits),
                  "Leave it out where results shall not depend on the batch");
  }
  o = fresh(q.dtype, queryHeads(), queries(), valueDim());
  if (withLse) lse = TensorView::ofShape(statistics(), {batch(), queryHeads(), queries()});
  return {};
}

DecodeSplits AttentionDecode::plan(int64_t wanted) const {
  // Keys from the first one seen to the last, whatever the lengths.
  const int64_t reach =
      windowLeft < 0 ? keys() : std::min(keys(), windowLeft + queries() + kSplitStep);
  const auto pieces = [&](int64_t least) { return (reach + least - 1) / least; };
  if (splits > 0) {
    return {std::clamp<int64_t>(pieces(kSplitStep), 1, splits), splits, kSplitStep};
  }
  if (batchInvariant) {
    return {std::clamp<int64_t>(pieces(kInvariantKeys), 1, kMostSplits), kMostSplits,
            kInvariantKeys};
  }
  const int64_t most = std::clamp<int64_t>(reach / kLeastKeys, 1, kMostSplits);
  const int64_t count = std::clamp<int64_t>(wanted, 1, most);
  return {count, count, kLeastKeys};
}

size_t AttentionDecode::workspace(int threads) const {
  return cpu::attentionDecodeWorkspaceByLevel()(*this, threads);
}

LONGSPAN_OPERATOR(AttentionDecode, attentionDecode);

}  // namespace longspan::ops
