// attentionDecode: new tokens against a key/value cache whose length lives on the device, attention
// family.
#pragma once

#include "cpp/ops/attention/problem.h"

namespace longspan::ops {

// How the keys that an entry's queries see are cut, which decides in what order they are summed:
// from the first of them, rounded down to kSplitStep, into at most `parts` equal pieces of whole
// steps and `least` keys or more. `count` is the most pieces that there can be.
struct DecodeSplits {
  int64_t count, parts, least;
};

// q [B, Hq, T, D], k [B, Hkv, capacity, D], v [B, Hkv, capacity, Dv], or k and v in pages. The T
// new tokens are the last of the keyLengths[b] cached ones if causal; else they see all of these.
struct AttentionDecode : AttentionProblem {
  static constexpr const char* name = "attentionDecode";
  static constexpr int64_t kSplitStep = 64, kMostSplits = 128;
  static constexpr int64_t kLeastKeys = 256;  // of a piece
  static constexpr int64_t kInvariantKeys =
      512;             // the same where results must not depend on others
  int64_t splits = 0;  // pieces, or 0: as many as the device likes
  bool batchInvariant = false;
  bool withLse = false;
  TensorView o, lse;  // [B, Hq, T, Dv], [B, Hq, T]

  template <class V>
  void fields(V& v_) {
    tensors(v_);
    v_.input("keyLengths", keyLengths);
    v_.optional("queryLengths", queryLengths);
    v_.optional("pageTable", pageTable);
    v_.group("terms", features, [&] {
      v_.optional("bias", bias);
      v_.optional("alibiSlopes", alibiSlopes);
      v_.optional("sinks", sinks);
    });
    v_.number("scale", scale);
    v_.number("softcap", softcap);
    v_.flag("causal", causal);
    v_.integer("windowLeft", windowLeft);
    v_.integer("splits", splits);
    v_.flag("batchInvariant", batchInvariant);
    v_.flag("withLse", withLse);
    v_.output("o", o);
    v_.output("lse", lse);
  }
  Status validate();
  size_t workspace(int threads) const;

  // wanted: what fills the device, if that is to decide.
  DecodeSplits plan(int64_t wanted) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_BY_LEVEL(size_t, attentionDecodeWorkspace, const ops::AttentionDecode&, int)
LONGSPAN_CPU_KERNEL(ops::AttentionDecode, attentionDecode)
}  // namespace longspan::cpu
