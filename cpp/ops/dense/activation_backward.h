// activationBackward: what flows back through y = activation(x + bias): gradX = gradY *
// activation'(x + bias), and its sum over all axes but the last, the gradient of the bias, in the
// same pass.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/dense/activation.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct ActivationBackward {
  static constexpr const char* name = "activationBackward";
  // Rows are summed in at most so many chunks, whose sums are then added in order.
  static constexpr int64_t kChunks = 64;

  TensorView gradY, kept, gradX, gradBias;
  Activation activation = Activation::none;
  bool wantBias = false;

  template <class V>
  void fields(V& v) {
    v.input("gradY", gradY);
    v.optional("kept", kept);  // x + bias; for relu y serves as well; nothing for none
    v.choice("activation", activation, activationNames());
    v.flag("wantBias", wantBias);
    v.output("gradX", gradX);  // absent for none, where it would be gradY
    v.output("gradBias", gradBias);
  }
  Status validate();
  size_t workspace(int threads) const;

  int64_t columns() const { return gradY.dim(-1); }
  int64_t rows() const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::ActivationBackward, activationBackward)
}
