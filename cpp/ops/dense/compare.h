// compare: u8 truth of a relation between two operands with broadcasting; one of them may be a
// number.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

enum class CompareKind : int {
  equal,
  notEqual,
  less,
  lessEqual,
  greater,
  greaterEqual,
  logicalAnd,
  logicalOr
};

struct Compare {
  static constexpr const char* name = "compare";
  TensorView a, b, y;
  double value = 0;  // the operand that is absent
  CompareKind kind = CompareKind::equal;

  template <class V>
  void fields(V& v) {
    v.optional("a", a);
    v.optional("b", b);
    v.number("value", value);
    v.choice("kind", kind,
             {"equal", "notEqual", "less", "lessEqual", "greater", "greaterEqual", "logicalAnd",
              "logicalOr"});
    v.output("y", y);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Compare, compare)
}
