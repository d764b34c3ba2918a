// cumsum: running sums along an axis, from its start or from its end.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Cumsum {
  static constexpr const char* name = "cumsum";
  TensorView x, y;
  int64_t axis = 0;
  bool reverse = false;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.integer("axis", axis);
    v.flag("reverse", reverse);
    v.output("y", y);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Cumsum, cumsum)
}
