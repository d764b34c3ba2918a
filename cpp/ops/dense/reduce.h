// reduce: sum or mean over axes.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

enum class ReduceKind : int { sum, mean };

struct Reduce {
  static constexpr const char* name = "reduce";
  TensorView x, y;
  ReduceKind kind = ReduceKind::sum;
  std::vector<int64_t> axes;  // ascending
  bool keepDims = false;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.choice("kind", kind, {"sum", "mean"});
    v.integers("axes", axes);
    v.flag("keepDims", keepDims);
    v.output("y", y);
  }
  Status validate();  // sums of i32 and u8 are i32
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Reduce, reduce)
}
