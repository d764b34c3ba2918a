// extremum: the largest or smallest element over axes, and where it first occurs. NaN counts as
// more extreme than any number.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

enum class ExtremumKind : int { max, min };

struct Extremum {
  static constexpr const char* name = "extremum";
  TensorView x, y, index;
  ExtremumKind kind = ExtremumKind::max;
  std::vector<int64_t> axes;  // ascending
  bool keepDims = false, wantValue = true, wantIndex = false;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.choice("kind", kind, {"max", "min"});
    v.integers("axes", axes);
    v.flag("keepDims", keepDims);
    v.flag("wantValue", wantValue);
    v.flag("wantIndex", wantIndex);
    v.output("y", y);
    v.output("index", index);  // i32, row-major over the reduced axes
  }
  Status validate();
  size_t workspace(int threads) const;
};

// gradX: gradY at the recorded element of each result, 0 elsewhere.
struct ExtremumBackward {
  static constexpr const char* name = "extremumBackward";
  TensorView gradY, index, gradX;
  std::vector<int64_t> shape, axes;

  template <class V>
  void fields(V& v) {
    v.input("gradY", gradY);
    v.input("index", index);
    v.integers("shape", shape);
    v.integers("axes", axes);
    v.output("gradX", gradX);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Extremum, extremum)
Status extremumBackward(const ops::ExtremumBackward& p, Context& context);
}  // namespace longspan::cpu
