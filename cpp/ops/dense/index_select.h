// indexSelect: slices of x along an axis, chosen by ids; embedding is this with axis 0. The axis is
// replaced by the axes of ids. indexSelectBackward adds gradients back to where they were read.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct IndexSelect {
  static constexpr const char* name = "indexSelect";
  TensorView x, ids, y;
  int64_t axis = 0;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.integer("axis", axis);
    v.input("ids", ids);
    v.output("y", y);
  }
  Status validate();
};

struct IndexSelectBackward {
  static constexpr const char* name = "indexSelectBackward";
  TensorView gradY, ids, gradX;
  int64_t axis = 0, length = 0;
  int64_t skip = -1;  // an id whose gradient is 0, or -1

  template <class V>
  void fields(V& v) {
    v.input("gradY", gradY);
    v.integer("axis", axis);
    v.input("ids", ids);
    v.integer("length", length);
    v.integer("skip", skip);
    v.output("gradX", gradX);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
Status indexSelect(const ops::IndexSelect& p, Context& context);
LONGSPAN_CPU_KERNEL(ops::IndexSelectBackward, indexSelectBackward)
}  // namespace longspan::cpu
