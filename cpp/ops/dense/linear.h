// linear: y = activation(x weight^T + bias), x [..., in], weight [out, in]: a matmul under the
// names its users know.
#pragma once

#include "cpp/ops/dense/matmul.h"

namespace longspan::ops {

struct Linear {
  static constexpr const char* name = "linear";
  Matmul product;

  template <class V>
  void fields(V& v) {
    v.input("x", product.a);
    v.input("weight", product.b);
    v.optional("bias", product.bias);
    v.choice("activation", product.activation, activationNames());
    v.flag("keepPreactivation", product.keepPreactivation);
    v.flag("allowTf32", product.allowTf32);
    v.output("y", product.y);
    v.output("preactivation", product.preactivation);
  }
  Status validate();
  size_t workspace(int threads) const { return product.workspace(threads); }
};

}  // namespace longspan::ops

namespace longspan::cpu {
inline Status linear(const ops::Linear& p, Context& context) { return matmul(p.product, context); }
}  // namespace longspan::cpu
