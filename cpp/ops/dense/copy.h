// copy: x in row-major order, converted to another dtype. assign: x written into a view.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Copy {
  static constexpr const char* name = "copy";
  TensorView x, y;
  int64_t dtype = 0;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.integer("dtype", dtype);
    v.output("y", y);
  }
  Status validate();
};

struct Assign {
  static constexpr const char* name = "assign";
  TensorView y, x;

  template <class V>
  void fields(V& v) {
    v.inout("y", y);
    v.input("x", x);
  }
  Status validate();  // broadcasts x to the shape of y
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Copy, copy)
LONGSPAN_CPU_KERNEL(ops::Assign, assign)
}  // namespace longspan::cpu
