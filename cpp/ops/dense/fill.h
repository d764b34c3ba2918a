// fill: a new tensor with one value, dense family.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Fill {
  static constexpr const char* name = "fill";
  std::vector<int64_t> shape;
  int64_t dtype = 0;
  double value = 0;
  TensorView y;

  template <class V>
  void fields(V& v) {
    v.integers("shape", shape);
    v.integer("dtype", dtype);
    v.number("value", value);
    v.output("y", y);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
Status fill(const ops::Fill& p, Context& context);
}
