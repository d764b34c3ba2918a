// softmax and logSoftmax along an axis, computed in f32 (f64 for f64). A row of -inf alone gives
// zeros (softmax) or -inf (logSoftmax), and no gradient.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct SoftmaxFields {
  TensorView x, y;
  int64_t axis = -1;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.integer("axis", axis);
    v.output("y", y);
  }
  Status validate();
  size_t workspace(int threads) const;
};

struct SoftmaxBackwardFields {
  TensorView gradY, y, gradX;
  int64_t axis = -1;

  template <class V>
  void fields(V& v) {
    v.input("gradY", gradY);
    v.input("y", y);
    v.integer("axis", axis);
    v.output("gradX", gradX);
  }
  Status validate();
  size_t workspace(int threads) const;
};

struct Softmax : SoftmaxFields {
  static constexpr const char* name = "softmax";
};
struct SoftmaxBackward : SoftmaxBackwardFields {
  static constexpr const char* name = "softmaxBackward";
};
struct LogSoftmax : SoftmaxFields {
  static constexpr const char* name = "logSoftmax";
};
struct LogSoftmaxBackward : SoftmaxBackwardFields {
  static constexpr const char* name = "logSoftmaxBackward";
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Softmax, softmax)
LONGSPAN_CPU_KERNEL(ops::SoftmaxBackward, softmaxBackward)
LONGSPAN_CPU_KERNEL(ops::LogSoftmax, logSoftmax)
LONGSPAN_CPU_KERNEL(ops::LogSoftmaxBackward, logSoftmaxBackward)
}  // namespace longspan::cpu
