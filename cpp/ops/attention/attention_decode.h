// attentionDecode: new tokens against a key/value cache whose length lives on the device, attention
// family.
#pragma once

#include "cpp/ops/attention/problem.h"

namespace longspan::ops {

// q [B, Hq, T, D], k [B, Hkv, capacity, D], v [B, Hkv, capacity, Dv]: always causal, the T new
// tokens are the last of the keyLengths[b] cached ones.
struct AttentionDecode : AttentionProblem {
  static constexpr const char* name = "attentionDecode";
  bool withLse = false;
  TensorView o, lse;  // [B, Hq, T, Dv], [B, Hq, T]

  template <class V>
  void fields(V& v_) {
    tensors(v_);
    v_.input("keyLengths", keyLengths);
    v_.optional("queryLengths", queryLengths);
    v_.number("scale", scale);
    v_.number("softcap", softcap);
    v_.integer("windowLeft", windowLeft);
    v_.flag("withLse", withLse);
    v_.output("o", o);
    v_.output("lse", lse);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_BY_LEVEL(size_t, attentionDecodeWorkspace, const ops::AttentionDecode&, int)
LONGSPAN_CPU_KERNEL(ops::AttentionDecode, attentionDecode)
}  // namespace longspan::cpu
