// categorical: one class per row of logits [..., V], drawn from softmax(logits / temperature) among
// the topK largest (0: all) and of those the fewest that hold a share topP of the mass. Temperature
// 0 takes the largest, the first of equals. Row r reads block r of the state.
#pragma once

#include "cpp/ops/operator.h"

namespace longspan::ops {

struct Categorical {
  static constexpr const char* name = "categorical";
  TensorView logits, state, ids;  // ids i32[...]
  double temperature = 1, topP = 1;
  int64_t topK = 0;

  template <class V>
  void fields(V& v) {
    v.input("logits", logits);
    v.input("state", state);
    v.number("temperature", temperature);
    v.integer("topK", topK);
    v.number("topP", topP);
    v.output("ids", ids);
  }
  Status validate();
  size_t workspace(int threads) const;  // a logit, a weight and an index per class and thread
};

}  // namespace longspan::ops

namespace longspan::cpu {
Status categorical(const ops::Categorical& p, Context& context);
}
