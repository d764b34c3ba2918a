// binary: arithmetic of two operands with broadcasting; one of them may be a number.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

enum class BinaryKind : int { add, sub, mul, div, pow, maximum, minimum };

struct Binary {
  static constexpr const char* name = "binary";
  TensorView a, b, y;
  double value = 0;  // the operand that is absent
  BinaryKind kind = BinaryKind::add;

  template <class V>
  void fields(V& v) {
    v.optional("a", a);
    v.optional("b", b);
    v.number("value", value);
    v.choice("kind", kind, {"add", "sub", "mul", "div", "pow", "maximum", "minimum"});
    v.output("y", y);
  }
  Status validate();  // floats and i32 (without div and pow) of one dtype
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Binary, binary)
}
