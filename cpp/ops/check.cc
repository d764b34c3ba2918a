#include "cpp/ops/check.h"

#include <algorithm>
#include <cmath>

namespace longspan::check {

Status floating(const char* field, const TensorView& t) {
  if (isFloating(t.dtype)) return {};
  return Status(Code::dtype, field, describe(t),
                "Use f32, f16, bf16 or f64; tensor.to(dtype) converts");
}

Status dtype(const char* field, const TensorView& t, DType expected) {
  if (t.dtype == expected) return {};
  return Status(Code::dtype, field, describe(t),
                std::string("Use ") + nameOf(expected) + "; tensor.to(dtype) converts");
}

Status sameDtype(const char* field, const TensorView& t, const char* other, const TensorView& o) {
  if (t.dtype == o.dtype) return {};
  return Status(Code::dtype, field, describe(t),
                std::string("It must have the dtype of '") + other + "', which is " + describe(o) +
                    "; tensor.to(dtype) converts");
}

Status rank(const char* field, const TensorView& t, int expected) {
  if (t.rank == expected) return {};
  return Status(Code::rank, field, describe(t),
                "It must have " + std::to_string(expected) + (expected == 1 ? " axis" : " axes"));
}

Status rankAtLeast(const char* field, const TensorView& t, int least) {
  if (t.rank >= least) return {};
  return Status(
      Code::rank, field, describe(t),
      "It must have at least " + std::to_string(least) + (least == 1 ? " axis" : " axes"));
}

Status sameShape(const char* field, const TensorView& t, const char* other, const TensorView& o) {
  if (t.sameShape(o)) return {};
  return Status(Code::shape, field, describe(t),
                std::string("It must have the shape of '") + other + "', which is " + describe(o));
}

Status shape(const char* field, const TensorView& t, std::initializer_list<int64_t> dims) {
  bool same = t.rank == static_cast<int>(dims.size());
  int i = 0;
  std::string wanted = "[";
  for (int64_t d : dims) {
    if (i > 0) wanted += ", ";
    wanted += std::to_string(d);
    same = same && t.shape[i] == d;
    ++i;
  }
  if (same) return {};
  return Status(Code::shape, field, describe(t), "It must have shape " + wanted + "]");
}

Status contiguous(const char* field, const TensorView& t) {
  if (t.contiguous()) return {};
  return Status(Code::shape, field, describe(t) + " with gaps between its elements",
                "Call contiguous() on it first");
}

Status finite(const char* field, double x) {
  if (std::isfinite(x)) return {};
  return Status(Code::value, field, std::isnan(x) ? "NaN" : (x > 0 ? "Infinity" : "-Infinity"),
                "Use a finite number");
}

std::string text(double x) {
  std::string s = std::to_string(x);
  while (s.find('.') != std::string::npos && (s.back() == '0' || s.back() == '.')) {
    const bool dot = s.back() == '.';
    s.pop_back();
    if (dot) break;
  }
  return s;
}

Status generatorState(const char* field, const TensorView& state) {
  LONGSPAN_RETURN_IF_ERROR(dtype(field, state, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(shape(field, state, {4}));
  return contiguous(field, state);
}

Status inRange(const char* field, double x, double lo, double hi) {
  if (x >= lo && x <= hi) return {};
  return Status(Code::value, field, std::isnan(x) ? "NaN" : text(x),
                "Use a number from " + text(lo) + " to " + text(hi));
}

Status representable(const char* field, double x, DType dtype) {
  if (isFloating(dtype)) return {};
  const double lo = dtype == DType::u8 ? 0 : -2147483648.0;
  const double hi = dtype == DType::u8 ? 255 : 2147483647.0;
  if (x >= lo && x <= hi && x == std::trunc(x)) return {};
  return Status(
      Code::value, field, std::isnan(x) ? "NaN" : text(x),
      "Use a whole number from " + text(lo) + " to " + text(hi) + " for " + nameOf(dtype));
}

Status extents(const char* field, const std::vector<int64_t>& dims) {
  if (dims.size() > static_cast<size_t>(kMaxRank)) {
    return Status(Code::rank, field, std::to_string(dims.size()) + " axes",
                  "Use at most " + std::to_string(kMaxRank));
  }
  double product = 1;
  for (int64_t d : dims) {
    if (d < 0) return Status(Code::shape, field, std::to_string(d), "Axis lengths are 0 or more");
    product *= static_cast<double>(d);
  }
  if (product >= 0x1p48) {
    return Status(Code::shape, field, text(product) + " elements", "Use fewer than 2^48 elements");
  }
  return {};
}

Status broadcastTo(const char* field, TensorView& t, const char* other, const TensorView& target) {
  TensorView wide = t;
  wide.rank = target.rank;
  bool fits = t.rank <= target.rank;
  for (int i = 0; fits && i < target.rank; ++i) {
    const int from = i - (target.rank - t.rank);
    const int64_t length = from < 0 ? 1 : t.shape[from];
    fits = length == target.shape[i] || length == 1;
    wide.shape[i] = target.shape[i];
    wide.stride[i] = from < 0 || length == 1 ? 0 : t.stride[from];
  }
  if (!fits) {
    return Status(Code::shape, field, describe(t),
                  std::string("It must broadcast to the shape of '") + other + "', which is " +
                      describe(target));
  }
  t = wide;
  return {};
}

Status broadcast(const char* field, TensorView& a, const char* other, TensorView& b, DType dtype,
                 TensorView& out) {
  std::array<int64_t, kMaxRank> dims{};
  const int rank = std::max(a.rank, b.rank);
  for (int i = 0; i < rank; ++i) {
    const int ia = i - (rank - a.rank), ib = i - (rank - b.rank);
    const int64_t da = ia < 0 || !a.defined() ? 1 : a.shape[ia];
    const int64_t db = ib < 0 || !b.defined() ? 1 : b.shape[ib];
    if (da != db && da != 1 && db != 1) {
      return Status(Code::shape, field, describe(a),
                    std::string("It must broadcast with '") + other + "', which is " + describe(b) +
                        ": axes counted from the end must be equal, or 1 in one of them");
    }
    dims[i] = da == 1 ? db : da;
  }
  out = TensorView::ofShape(dtype, dims.data(), rank);
  if (a.defined()) LONGSPAN_RETURN_IF_ERROR(broadcastTo(field, a, other, out));
  if (b.defined()) LONGSPAN_RETURN_IF_ERROR(broadcastTo(other, b, field, out));
  return {};
}

Status axes(const char* field, const std::vector<int64_t>& list, const TensorView& t) {
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i] < 0 || list[i] >= t.rank || (i > 0 && list[i] <= list[i - 1])) {
      return Status(Code::value, field, std::to_string(list[i]),
                    "Name each axis of " + describe(t) + " at most once, counted from 0");
    }
  }
  return {};
}

Status axis(const char* field, int64_t axis, const TensorView& t) {
  if (axis >= 0 && axis < t.rank) return {};
  return Status(Code::value, field, std::to_string(axis), "It must be an axis of " + describe(t));
}

}  // namespace longspan::check
