// gather: y[.., i, ..] = x[.., index[.., i, ..], ..]. scatterAdd: x with source added at such
// places.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Gather {
  static constexpr const char* name = "gather";
  TensorView x, index, y;
  int64_t axis = 0;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.integer("axis", axis);
    v.input("index", index);
    v.output("y", y);
  }
  Status validate();
};

struct ScatterAdd {
  static constexpr const char* name = "scatterAdd";
  TensorView x, index, source, y;
  int64_t axis = 0;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.integer("axis", axis);
    v.input("index", index);
    v.input("source", source);
    v.output("y", y);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Gather, gather)
LONGSPAN_CPU_KERNEL(ops::ScatterAdd, scatterAdd)
}  // namespace longspan::cpu
