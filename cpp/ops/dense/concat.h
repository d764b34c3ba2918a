// concat: tensors one after another along an axis.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Concat {
  static constexpr const char* name = "concat";
  TensorList tensors;
  TensorView y;
  int64_t axis = 0;

  template <class V>
  void fields(V& v) {
    v.inputs("tensors", tensors);
    v.integer("axis", axis);
    v.output("y", y);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
Status concat(const ops::Concat& p, Context& context);
}
