// dropout: elements zeroed with probability p, the others scaled by 1 / (1 - p). Element i
// (row-major) falls when word i of the state is below p. The gradient is the same operator with the
// same state.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Dropout {
  static constexpr const char* name = "dropout";
  TensorView x, state, y;
  double p = 0.5;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.input("state", state);
    v.number("p", p);
    v.output("y", y);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Dropout, dropout)
}
