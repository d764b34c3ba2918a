// sort: the elements along an axis in order, with their positions; stable. topK: the k most extreme
// of them. NaN counts as larger than any number.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Sort {
  static constexpr const char* name = "sort";
  TensorView x, values, indices;  // indices i32
  int64_t axis = 0;
  bool descending = false;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.integer("axis", axis);
    v.flag("descending", descending);
    v.output("values", values);
    v.output("indices", indices);
  }
  Status validate();
  size_t workspace(int threads) const;
};

struct TopK {
  static constexpr const char* name = "topK";
  TensorView x, values, indices;
  int64_t axis = 0, k = 1;
  bool largest = true;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.integer("k", k);
    v.integer("axis", axis);
    v.flag("largest", largest);
    v.output("values", values);
    v.output("indices", indices);
  }
  Status validate();
  size_t workspace(int threads) const;
  // Elements that the CPU keeps before it selects the k best of them.
  int64_t candidates() const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
Status sort(const ops::Sort& p, Context& context);
Status topK(const ops::TopK& p, Context& context);
}  // namespace longspan::cpu
