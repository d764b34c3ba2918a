// accumulate: a + b of one shape and dtype, the sum of two gradients.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Accumulate {
  static constexpr const char* name = "accumulate";
  TensorView a, b, y;

  template <class V>
  void fields(V& v) {
    v.input("a", a);
    v.input("b", b);
    v.output("y", y);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Accumulate, accumulate)
}
