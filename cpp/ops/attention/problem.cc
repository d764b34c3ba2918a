#include "cpp/ops/attention/problem.h"

#include <utility>

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

Status window(const char* field, int64_t x) {
  if (x >= -1) return {};
  return Status(Code::value, field, std::to_string(x), "Use 0 or more keys, or -1 for no limit");
}

}  // namespace

Status AttentionProblem::check() const {
  LONGSPAN_RETURN_IF_ERROR(operand("q", q));
  LONGSPAN_RETURN_IF_ERROR(operand("k", k));
  LONGSPAN_RETURN_IF_ERROR(operand("v", v));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("k", k, "q", q));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("v", v, "q", q));
  LONGSPAN_RETURN_IF_ERROR(sameAxis("k", k, 0, "q", q, 0, "batch size"));
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
  LONGSPAN_RETURN_IF_ERROR(check::finite("scale", scale));
  LONGSPAN_RETURN_IF_ERROR(check::finite("softcap", softcap));
  if (softcap < 0) {
    return Status(Code::value, "softcap", check::text(softcap),
                  "Use a positive number, or 0 for none");
  }
  LONGSPAN_RETURN_IF_ERROR(window("windowLeft", windowLeft));
  return window("windowRight", windowRight);
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

}  // namespace longspan::ops
