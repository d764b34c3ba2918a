// The checks validate() is written with. Each returns ok or a Status naming field, value and
// remedy.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "cpp/core/status.h"
#include "cpp/core/tensor_view.h"

namespace longspan::check {

Status floating(const char* field, const TensorView& t);
Status dtype(const char* field, const TensorView& t, DType expected);
Status sameDtype(const char* field, const TensorView& t, const char* other, const TensorView& o);
Status rank(const char* field, const TensorView& t, int expected);
Status rankAtLeast(const char* field, const TensorView& t, int least);
Status sameShape(const char* field, const TensorView& t, const char* other, const TensorView& o);
Status shape(const char* field, const TensorView& t, std::initializer_list<int64_t> dims);
Status contiguous(const char* field, const TensorView& t);
Status finite(const char* field, double x);
std::string text(double x);
// What a generator has drawn for an operator: PhiloxState as i32[4].
Status generatorState(const char* field, const TensorView& state);

// lo <= x <= hi, NaN refused.
Status inRange(const char* field, double x, double lo, double hi);
// Of the integer dtypes: a whole number in their range. Floats hold any.
Status representable(const char* field, double x, DType dtype);

// Axis lengths of a new tensor: not negative, at most kMaxRank of them, a product below 2^48.
Status extents(const char* field, const std::vector<int64_t>& dims);

// Gives `t` the shape of `target` with stride 0 on the axes it is repeated over (NumPy's rules).
Status broadcastTo(const char* field, TensorView& t, const char* other, const TensorView& target);

// The shape two operands broadcast to (NumPy's rules): gives it to `out` and strides of 0 to the
// operands. An operand that is absent takes the shape of the other.
Status broadcast(const char* field, TensorView& a, const char* other, TensorView& b, DType dtype,
                 TensorView& out);

// Distinct axes of t in ascending order, none negative.
Status axes(const char* field, const std::vector<int64_t>& list, const TensorView& t);
Status axis(const char* field, int64_t axis, const TensorView& t);

}  // namespace longspan::check
