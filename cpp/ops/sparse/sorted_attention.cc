#include "cpp/ops/sparse/sorted_attention.h"

#include <utility>

#include "cpp/ops/attention/problem.h"
#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

Status sortedOperand(const char* field, const TensorView& t, const TensorView& q) {
  LONGSPAN_RETURN_IF_ERROR(check::floating(field, t));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype(field, t, "q", q));
  LONGSPAN_RETURN_IF_ERROR(check::rank(field, t, 4));
  if (t.shape[3] < 1 || t.shape[3] > kMaxHeadDim) {
    return Status(Code::shape, field, describe(t),
                  "Its last axis, the head dimension, must be 1 to " + std::to_string(kMaxHeadDim));
  }
  constexpr int64_t kMostTokens = int64_t{1} << 29;  // positions are 32-bit in the kernels
  if (t.shape[2] <= kMostTokens) return {};
  return Status(Code::shape, field, describe(t), "Use sequences of at most 2^29 tokens");
}

Status sortedIndices(const char* field, const TensorView& t, const TensorView& q) {
  LONGSPAN_RETURN_IF_ERROR(check::dtype(field, t, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank(field, t, 4));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous(field, t));
  if (t.shape[0] == q.shape[0] && t.shape[1] == q.shape[1] && t.shape[2] >= 1 && t.shape[3] >= 1)
    return {};
  return Status(Code::shape, field, describe(t),
                "It must be [" + std::to_string(q.shape[0]) + ", " + std::to_string(q.shape[1]) +
                    ", rounds, ...] with one round or more");
}

Status sortedRounds(const char* field, const TensorView& t, const TensorView& queryOrder) {
  if (t.shape[2] == queryOrder.shape[2]) return {};
  return Status(Code::shape, field, describe(t),
                "It must have the rounds of 'queryOrder', " + std::to_string(queryOrder.shape[2]));
}

Status wholeFrom(const char* field, int64_t x, int64_t least) {
  if (x >= least) return {};
  return Status(Code::value, field, std::to_string(x),
                "Use a whole number from " + std::to_string(least) + " on");
}

Status onlyWithPattern(bool given, const char* field, const char* value, const char* pattern) {
  if (!given) return {};
  return Status(Code::value, field, value,
                std::string("Leave it out, or use pattern '") + pattern + "'");
}

}  // namespace

Status SortedAttentionProblem::check() const {
  LONGSPAN_RETURN_IF_ERROR(sortedOperand("q", q, q));
  LONGSPAN_RETURN_IF_ERROR(sortedOperand("k", k, q));
  LONGSPAN_RETURN_IF_ERROR(sortedOperand("v", v, q));
  if (k.shape[0] != batch() || k.shape[3] != dim()) {
    return Status(Code::shape, "k", describe(k),
                  "It must have the batch size and the head dimension of 'q', " + describe(q));
  }
  LONGSPAN_RETURN_IF_ERROR(check::shape("v", v, {batch(), keyHeads(), keys(), valueDim()}));
  if (keyHeads() < 1 || queryHeads() < 1 || queryHeads() % keyHeads() != 0) {
    return Status(Code::shape, "k", describe(k),
                  "The " + std::to_string(queryHeads()) +
                      " heads of 'q' must be a positive multiple of its heads");
  }
  LONGSPAN_RETURN_IF_ERROR(sortedIndices("queryOrder", queryOrder, q));
  const std::pair<const char*, const TensorView*> others[] = {
      {"keyOrder", &keyOrder}, {"queryOffsets", &queryOffsets}, {"keyOffsets", &keyOffsets}};
  for (const auto& [field, t] : others) {
    LONGSPAN_RETURN_IF_ERROR(sortedIndices(field, *t, q));
    LONGSPAN_RETURN_IF_ERROR(sortedRounds(field, *t, queryOrder));
  }
  if (queryOffsets.shape[3] < 2) {
    return Status(Code::shape, "queryOffsets", describe(queryOffsets),
                  "It has one more element than there are groups, of which there is one at least");
  }
  LONGSPAN_RETURN_IF_ERROR(
      check::sameShape("keyOffsets", keyOffsets, "queryOffsets", queryOffsets));
  constexpr int64_t kMostEntries = int64_t{1} << 30;
  if (rounds() * queryEntries() > kMostEntries || rounds() * keyEntries() > kMostEntries) {
    return Status(Code::shape, "queryOrder", describe(queryOrder),
                  "Use at most 2^30 entries, rounds times tokens");
  }
  if (pattern == SortedPattern::chunk || isGlobal()) {
    LONGSPAN_RETURN_IF_ERROR(wholeFrom("chunk", chunk, 1));
    LONGSPAN_RETURN_IF_ERROR(wholeFrom("back", back, 0));
    LONGSPAN_RETURN_IF_ERROR(wholeFrom("forward", forward, 0));
  }
  if (pattern == SortedPattern::window) {
    LONGSPAN_RETURN_IF_ERROR(wholeFrom("window", window, 1));
    if (!causal) {
      return Status(Code::value, "causal", "false",
                    "A window holds keys up to the query's position: set causal, or use pattern "
                    "'chunk' or 'group'");
    }
  }
  if (isGlobal()) {
    LONGSPAN_RETURN_IF_ERROR(check::sameShape("keyOrder", keyOrder, "queryOrder", queryOrder));
    if (lengths.defined()) {
      LONGSPAN_RETURN_IF_ERROR(check::dtype("lengths", lengths, DType::i32));
      LONGSPAN_RETURN_IF_ERROR(check::shape("lengths", lengths, {batch()}));
    }
  } else {
    LONGSPAN_RETURN_IF_ERROR(onlyWithPattern(lengths.defined(), "lengths", "given", "global"));
    LONGSPAN_RETURN_IF_ERROR(onlyWithPattern(sameGroup, "sameGroup", "true", "global"));
    LONGSPAN_RETURN_IF_ERROR(onlyWithPattern(duplicates == SortedDuplicates::sameRound,
                                             "duplicates", "sameRound", "global"));
  }
  LONGSPAN_RETURN_IF_ERROR(check::finite("selfPenalty", selfPenalty));
  // Of a last resort: logits below half of it are told from those that products give.
  if ((self == SortedSelf::lastResort || self == SortedSelf::penalised) && selfPenalty < 100) {
    return Status(Code::value, "selfPenalty", check::text(selfPenalty), "Use 100 or more");
  }
  return check::finite("scale", scale);
}

Status SortedAttention::validate() {
  LONGSPAN_RETURN_IF_ERROR(check());
  o = TensorView::ofShape(q.dtype, {batch(), queryHeads(), queries(), valueDim()});
  lse = TensorView::ofShape(statistics(), {batch(), queryHeads(), queries()});
  if (withRoundLse) {
    roundLse = TensorView::ofShape(statistics(), {batch(), queryHeads(), rounds(), queries()});
  }
  return {};
}

size_t SortedAttention::workspace(int threads) const {
  return cpu::sortedAttentionWorkspaceByLevel()(*this, threads);
}

Status SortedAttentionBackward::validate() {
  LONGSPAN_RETURN_IF_ERROR(check());
  const TensorView rows =
      TensorView::ofShape(q.dtype, {batch(), queryHeads(), queries(), valueDim()});
  const TensorView statistic =
      TensorView::ofShape(statistics(), {batch(), queryHeads(), queries()});
  LONGSPAN_RETURN_IF_ERROR(checkResults({o, lse, gradO, gradLse}, rows, statistic));
  gradQ = TensorView::like(q);
  gradK = TensorView::like(k);
  gradV = TensorView::like(v);
  return {};
}

size_t SortedAttentionBackward::workspace(int threads) const {
  return cpu::sortedAttentionBackwardWorkspaceByLevel()(*this, threads);
}

LONGSPAN_OPERATOR(SortedAttention, sortedAttention);
LONGSPAN_OPERATOR(SortedAttentionBackward, sortedAttentionBackward);

}  // namespace longspan::ops
