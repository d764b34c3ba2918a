// oneHot: 1 at the place each id names on a new last axis, 0 elsewhere.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct OneHot {
  static constexpr const char* name = "oneHot";
  TensorView ids, y;
  int64_t classes = 0, dtype = 0;

  template <class V>
  void fields(V& v) {
    v.input("ids", ids);
    v.integer("classes", classes);
    v.integer("dtype", dtype);
    v.output("y", y);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
Status oneHot(const ops::OneHot& p, Context& context);
}
