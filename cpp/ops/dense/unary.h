// unary: a function of each element. unaryBackward: the gradient times its slope.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

enum class UnaryKind : int {
  exp,
  log,
  sqrt,
  rsqrt,
  abs,
  neg,
  sin,
  cos,
  tanh,
  sigmoid,
  erf,
  square,
  reciprocal,
  softplus,
  relu,
  reluSquared,
  gelu,
  geluTanh,
  silu,
  floor,
  round,
  sign,
};

inline Names unaryKinds() {
  static constexpr const char* names[] = {
      "exp",  "log",      "sqrt", "rsqrt",  "abs",        "neg",      "sin",  "cos",
      "tanh", "sigmoid",  "erf",  "square", "reciprocal", "softplus", "relu", "reluSquared",
      "gelu", "geluTanh", "silu", "floor",  "round",      "sign"};
  return names;
}

struct Unary {
  static constexpr const char* name = "unary";
  TensorView x, y;
  UnaryKind kind = UnaryKind::exp;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.choice("kind", kind, unaryKinds());
    v.output("y", y);
  }
  Status validate();
};

// `saved` is y for exp, sqrt, rsqrt, tanh, sigmoid, reciprocal and relu, x for the others.
struct UnaryBackward {
  static constexpr const char* name = "unaryBackward";
  TensorView gradY, saved, gradX;
  UnaryKind kind = UnaryKind::exp;

  template <class V>
  void fields(V& v) {
    v.input("gradY", gradY);
    v.input("saved", saved);
    v.choice("kind", kind, unaryKinds());
    v.output("gradX", gradX);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Unary, unary)
LONGSPAN_CPU_KERNEL(ops::UnaryBackward, unaryBackward)
}  // namespace longspan::cpu
