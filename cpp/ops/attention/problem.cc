#include "cpp/ops/attention/problem.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "cpp/ops/attention/block_mask.h"
#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

Status operand(const char* field, const TensorView& t) {
  LONGSPAN_RETURN_IF_ERROR(check::floating(field, t));
  LONGSPAN_RETURN_IF_ERROR(check::rank(field, t, 4));
  const int64_t dim = t.dim(-1);
  if (dim >= 1 && dim <= kMaxHeadDim) return {};
  return Status(Code::shape, field, describe(t),
                "Its last axis, the head dimension, must be 1 to " + std::to_string(kMaxHeadDim));
}

Status sameAxis(const char* field, const TensorView& t, int axis, const char* other,
                const TensorView& o, int otherAxis, const char* what) {
  if (t.shape[axis] == o.shape[otherAxis]) return {};
  return Status(
      Code::shape, field, describe(t),
      std::string("It must have the ") + what + " of '" + other + "', which is " + describe(o));
}

Status lengths(const char* field, const TensorView& t, int64_t batch) {
  if (!t.defined()) return {};
  LONGSPAN_RETURN_IF_ERROR(check::dtype(field, t, DType::i32));
  return check::shape(field, t, {batch});
}

// Boundaries of packed sequences.
Status boundaries(const char* field, const TensorView& t, const char* other, const TensorView& o) {
  LONGSPAN_RETURN_IF_ERROR(check::dtype(field, t, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank(field, t, 1));
  if (t.shape[0] < 1) {
    return Status(Code::shape, field, describe(t),
                  "It begins with 0 and has one more element per sequence");
  }
  return check::sameShape(field, t, other, o);
}

Status window(const char* field, int64_t x) {
  if (x >= -1) return {};
  return Status(Code::value, field, std::to_string(x), "Use 0 or more keys, or -1 for no limit");
}

}  // namespace

Status AttentionProblem::check() {
  LONGSPAN_RETURN_IF_ERROR(operand("q", q));
  LONGSPAN_RETURN_IF_ERROR(operand("k", k));
  LONGSPAN_RETURN_IF_ERROR(operand("v", v));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("k", k, "q", q));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("v", v, "q", q));
  if (paged()) {
    LONGSPAN_RETURN_IF_ERROR(checkPages());
  } else {
    LONGSPAN_RETURN_IF_ERROR(sameAxis("k", k, 0, "q", q, 0, "batch size"));
  }
  LONGSPAN_RETURN_IF_ERROR(sameAxis("k", k, 3, "q", q, 3, "head dimension"));
  LONGSPAN_RETURN_IF_ERROR(sameAxis("v", v, 0, "k", k, 0, "batch size"));
  LONGSPAN_RETURN_IF_ERROR(sameAxis("v", v, headAxis(), "k", k, headAxis(), "heads"));
  LONGSPAN_RETURN_IF_ERROR(sameAxis("v", v, tokenAxis(), "k", k, tokenAxis(), "length"));
  const int64_t heads = queryHeads(), shared = keyHeads();
  if (shared < 1 || heads < 1 || heads % shared != 0) {
    return Status(
        Code::shape, "k", describe(k),
        "The " + std::to_string(heads) + " heads of 'q' must be a positive multiple of its heads");
  }
  constexpr int64_t kMostTokens = int64_t{1} << 29;  // positions are 32-bit in the kernels
  if (queries() > kMostTokens || keys() > kMostTokens) {
    return Status(Code::shape, queries() > kMostTokens ? "q" : "k",
                  describe(queries() > kMostTokens ? q : k),
                  "Use sequences of at most 2^29 tokens");
  }
  LONGSPAN_RETURN_IF_ERROR(lengths("keyLengths", keyLengths, batch()));
  LONGSPAN_RETURN_IF_ERROR(lengths("queryLengths", queryLengths, batch()));
  LONGSPAN_RETURN_IF_ERROR(checkSequences());
  LONGSPAN_RETURN_IF_ERROR(checkMask());
  LONGSPAN_RETURN_IF_ERROR(checkTerms());
  LONGSPAN_RETURN_IF_ERROR(check::finite("scale", scale));
  LONGSPAN_RETURN_IF_ERROR(check::finite("softcap", softcap));
  if (softcap < 0) {
    return Status(Code::value, "softcap", check::text(softcap),
                  "Use a positive number, or 0 for none");
  }
  LONGSPAN_RETURN_IF_ERROR(window("windowLeft", windowLeft));
  return window("windowRight", windowRight);
}

Status AttentionProblem::checkPages() const {
  LONGSPAN_RETURN_IF_ERROR(check::dtype("pageTable", pageTable, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank("pageTable", pageTable, 2));
  LONGSPAN_RETURN_IF_ERROR(check::shape("pageTable", pageTable, {batch(), pageTable.shape[1]}));
  if (k.shape[tokenAxis()] >= 1) return {};
  return Status(Code::shape, "k", describe(k), "Use pages of one token or more");
}

Status AttentionProblem::checkSequences() const {
  if (packed() || cuSeqlensK.defined()) {
    if (!packed() || !cuSeqlensK.defined()) {
      return Status(Code::value, packed() ? "cuSeqlensK" : "cuSeqlensQ", "nothing",
                    "Give the boundaries of both queries and keys");
    }
    LONGSPAN_RETURN_IF_ERROR(boundaries("cuSeqlensQ", cuSeqlensQ, "cuSeqlensQ", cuSeqlensQ));
    LONGSPAN_RETURN_IF_ERROR(boundaries("cuSeqlensK", cuSeqlensK, "cuSeqlensQ", cuSeqlensQ));
    if (batch() != 1) {
      return Status(Code::shape, "q", describe(q), "Packed sequences lie in a batch of one");
    }
    const std::pair<const char*, const TensorView*> lengthsToo[] = {{"keyLengths", &keyLengths},
                                                                    {"queryLengths", &queryLengths},
                                                                    {"bias", &bias},
                                                                    {"maskRows", &maskRows}};
    for (const auto& [field, t] : lengthsToo) {
      if (!t->defined()) continue;
      return Status(Code::value, field, describe(*t),
                    "Leave it out with packed sequences, whose boundaries are cuSeqlensQ and "
                    "cuSeqlensK");
    }
  }
  return lengths("prefixLengths", prefixLengths, sequences());
}

Status AttentionProblem::checkMask() const {
  if (!maskRows.defined()) return {};
  if (std::find(std::begin(kMaskBlocks), std::end(kMaskBlocks), maskBlock) ==
      std::end(kMaskBlocks)) {
    return Status(Code::value, "maskBlock", std::to_string(maskBlock),
                  "Use blocks of 16, 32, 64 or 128");
  }
  const auto starts = [&](const char* field, const TensorView& t, int64_t tokens) -> Status {
    LONGSPAN_RETURN_IF_ERROR(check::dtype(field, t, DType::i32));
    LONGSPAN_RETURN_IF_ERROR(check::rank(field, t, 3));
    LONGSPAN_RETURN_IF_ERROR(check::contiguous(field, t));
    const int64_t count = (tokens + maskBlock - 1) / maskBlock + 1;
    const bool fits = (t.shape[0] == 1 || t.shape[0] == batch()) &&
                      (t.shape[1] == 1 || t.shape[1] == queryHeads()) && t.shape[2] == count;
    if (fits) return {};
    return Status(Code::shape, field, describe(t),
                  "A mask for these tensors has " + std::to_string(batch()) +
                      " or 1 batch entries, " + std::to_string(queryHeads()) + " or 1 heads and " +
                      std::to_string(count) + " elements per head");
  };
  const auto entries = [](const char* field, const TensorView& t) -> Status {
    LONGSPAN_RETURN_IF_ERROR(check::dtype(field, t, DType::i32));
    LONGSPAN_RETURN_IF_ERROR(check::rank(field, t, 2));
    LONGSPAN_RETURN_IF_ERROR(check::contiguous(field, t));
    return check::shape(field, t, {t.shape[0], 2});
  };
  const std::pair<const char*, const TensorView*> needed[] = {
      {"maskRowBlocks", &maskRowBlocks},
      {"maskColumns", &maskColumns},
      {"maskColumnBlocks", &maskColumnBlocks}};
  for (const auto& [field, t] : needed) {
    if (!t->defined())
      return Status(Code::value, field, "nothing", "A mask has lists of both sides");
  }
  LONGSPAN_RETURN_IF_ERROR(starts("maskRows", maskRows, queries()));
  LONGSPAN_RETURN_IF_ERROR(starts("maskColumns", maskColumns, keys()));
  LONGSPAN_RETURN_IF_ERROR(entries("maskRowBlocks", maskRowBlocks));
  LONGSPAN_RETURN_IF_ERROR(entries("maskColumnBlocks", maskColumnBlocks));
  if (!maskBits.defined()) return {};
  LONGSPAN_RETURN_IF_ERROR(check::dtype("maskBits", maskBits, DType::u8));
  LONGSPAN_RETURN_IF_ERROR(check::rank("maskBits", maskBits, 3));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("maskBits", maskBits));
  return check::shape("maskBits", maskBits, {maskBits.shape[0], maskBlock, maskBlock / 8});
}

Status AttentionProblem::checkTerms() {
  if (querySegments.defined() != keySegments.defined()) {
    return Status(Code::value, querySegments.defined() ? "keySegments" : "querySegments", "nothing",
                  "Give the segments of both queries and keys");
  }
  if (querySegments.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::dtype("querySegments", querySegments, DType::i32));
    LONGSPAN_RETURN_IF_ERROR(check::shape("querySegments", querySegments, {batch(), queries()}));
    LONGSPAN_RETURN_IF_ERROR(check::dtype("keySegments", keySegments, DType::i32));
    LONGSPAN_RETURN_IF_ERROR(check::shape("keySegments", keySegments, {batch(), keys()}));
  }
  if (bias.defined()) {
    if (bias.dtype != q.dtype && bias.dtype != statistics()) {
      return Status(Code::dtype, "bias", describe(bias),
                    "Use the dtype of 'q' or " + std::string(nameOf(statistics())));
    }
    const TensorView scores =
        TensorView::ofShape(q.dtype, {batch(), queryHeads(), queries(), keys()});
    LONGSPAN_RETURN_IF_ERROR(check::broadcastTo("bias", bias, "the scores", scores));
  }
  if (alibiSlopes.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::dtype("alibiSlopes", alibiSlopes, statistics()));
    LONGSPAN_RETURN_IF_ERROR(
        check::broadcastTo("alibiSlopes", alibiSlopes, "batch and heads of 'q'",
                           TensorView::ofShape(statistics(), {batch(), queryHeads()})));
  }
  if (sinks.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::dtype("sinks", sinks, statistics()));
    LONGSPAN_RETURN_IF_ERROR(check::shape("sinks", sinks, {queryHeads()}));
  }
  if (!(dropout >= 0 && dropout < 1)) {
    return Status(Code::value, "dropout", check::text(dropout),
                  "Use a probability from 0 to below 1");
  }
  if (dropout == 0) return {};
  if (!dropoutState.defined()) {
    return Status(Code::value, "dropoutState", "nothing", "Give the state of a generator");
  }
  return check::generatorState("dropoutState", dropoutState);
}

TensorView AttentionProblem::headMajor(const TensorView& t) const {
  TensorView view = t;
  if (tokenMajor) {
    std::swap(view.shape[1], view.shape[2]);
    std::swap(view.stride[1], view.stride[2]);
  }
  return view;
}

TensorView AttentionProblem::fresh(DType dtype, int64_t heads, int64_t tokens, int64_t dim) const {
  return tokenMajor ? TensorView::ofShape(dtype, {batch(), tokens, heads, dim})
                    : TensorView::ofShape(dtype, {batch(), heads, tokens, dim});
}

Status checkResults(const AttentionResults& r, const TensorView& output,
                    const TensorView& statistic) {
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("o", r.o, "q", output));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("o", r.o, "the output", output));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("lse", r.lse, statistic.dtype));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("lse", r.lse, "the log-sum-exp", statistic));
  if (r.gradO.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype("gradO", r.gradO, "q", output));
    LONGSPAN_RETURN_IF_ERROR(check::sameShape("gradO", r.gradO, "o", r.o));
  }
  if (!r.gradLse.defined()) return {};
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("gradLse", r.gradLse, "lse", r.lse));
  return check::sameShape("gradLse", r.gradLse, "lse", r.lse);
}

}  // namespace longspan::ops
