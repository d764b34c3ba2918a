// where: a where the condition holds, else b, with broadcasting; a or b may be a number.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Where {
  static constexpr const char* name = "where";
  TensorView condition, a, b, y;  // condition u8
  double valueA = 0, valueB = 0;  // operands that are absent

  template <class V>
  void fields(V& v) {
    v.input("condition", condition);
    v.optional("a", a);
    v.optional("b", b);
    v.number("valueA", valueA);
    v.number("valueB", valueB);
    v.output("y", y);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Where, where)
}
