// triangle: the part of each matrix (last two axes) on one side of a diagonal, 0 elsewhere.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Triangle {
  static constexpr const char* name = "triangle";
  TensorView x, y;
  int64_t diagonal = 0;  // column - row of the last diagonal that is kept
  bool upper = false;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.integer("diagonal", diagonal);
    v.flag("upper", upper);
    v.output("y", y);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
Status triangle(const ops::Triangle& p, Context& context);
}
