#include "cpp/ops/dense/rotary.h"

#include "cpp/ops/check.h"

namespace longspan::ops {

Status RotaryTurns::check(int64_t channels) const {
  LONGSPAN_RETURN_IF_ERROR(
      check::inRange("dim", static_cast<double>(dim), 0, static_cast<double>(channels)));
  if (dim % 2 != 0)
    return Status(Code::value, "dim", std::to_string(dim), "Use an even number of channels");
  LONGSPAN_RETURN_IF_ERROR(check::finite("base", base));
  if (base <= 0) return Status(Code::value, "base", check::text(base), "Use a number above 0");
  if (!frequencies.defined()) return {};
  if (frequencies.dtype != DType::f32 && frequencies.dtype != DType::f64) {
    return Status(Code::dtype, "frequencies", describe(frequencies), "Use f32 or f64");
  }
  return check::shape("frequencies", frequencies, {dim / 2});
}

Status Rotary::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("x", x));
  LONGSPAN_RETURN_IF_ERROR(check::rankAtLeast("x", x, 2));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("axis", static_cast<double>(axis), -x.rank, x.rank - 2));
  if (axis < 0) axis += x.rank;
  if (axis == x.rank - 1) {
    return Status(Code::value, "axis", "the last axis",
                  "Name the sequence axis; channels are the last one");
  }
  LONGSPAN_RETURN_IF_ERROR(RotaryTurns::check(x.dim(-1)));
  if (positions.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::dtype("positions", positions, DType::i32));
    if (positions.rank == 2) {
      if (axis == 0) {
        return Status(Code::rank, "positions", describe(positions),
                      "Positions of each batch entry need a batch axis before the sequence axis");
      }
      LONGSPAN_RETURN_IF_ERROR(check::shape("positions", positions, {x.shape[0], x.shape[axis]}));
    } else {
      LONGSPAN_RETURN_IF_ERROR(check::shape("positions", positions, {x.shape[axis]}));
    }
  }
  if (offset.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::dtype("offset", offset, DType::i32));
    if (offset.numel() != 1) {
      return Status(Code::shape, "offset", describe(offset), "It must have exactly one element");
    }
  }
  y = TensorView::like(x);
  return {};
}

// Frequencies in f64, a cosine and a sine per position and pair, two rows per thread.
size_t Rotary::workspace(int threads) const {
  const auto half = static_cast<size_t>(dim / 2);
  const auto places = static_cast<size_t>(positions.defined() ? positions.numel() : x.shape[axis]);
  const size_t element = x.dtype == DType::f64 ? sizeof(double) : sizeof(float);
  return half * sizeof(double) + element * (2 * half * places + 2 * static_cast<size_t>(x.dim(-1)) *
                                                                    static_cast<size_t>(threads));
}

LONGSPAN_OPERATOR(Rotary, rotary);

}  // namespace longspan::ops
