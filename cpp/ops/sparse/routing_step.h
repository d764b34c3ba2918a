// routingStep: decoding of routed attention. Of each cluster the last `window` keys and values are
// kept in a ring, so that a token costs its window, however many came before it. Tokens are taken
// one after another: token t is appended to the ring of its key's cluster, then sees the ring of
// its query's. That is what sortedAttention with pattern `window` gives it in the whole sequence.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

inline constexpr int64_t kMostRoutedDim = 256;  // of keys and of values, as in sortedAttention

struct RoutingStep {
  static constexpr const char* name = "routingStep";
  TensorView keys;    // [B, H, clusters, window, D]
  TensorView values;  // [B, H, clusters, window, Dv]
  TensorView counts;  // i32 [B, H, clusters]: tokens that came; token n lies in slot n % window
  TensorView q;       // [B, H, T, D]
  TensorView k;       // [B, H, T, D]
  TensorView v;       // [B, H, T, Dv]
  TensorView queryClusters, keyClusters;  // i32 [B, H, T]; outside of the clusters: none
  TensorView o;                           // [B, H, T, Dv]; 0 where nothing is seen
  double scale = 1;
  bool lastResort = false;  // a token's own logit is -selfPenalty
  double selfPenalty = 0;

  int64_t clusters() const { return counts.shape[2]; }
  int64_t window() const { return keys.shape[3]; }
  // `keys` or `values` with the slots of all clusters as rows: [B, H, clusters window, D].
  static TensorView slotRows(const TensorView& rings);

  template <class V>
  void fields(V& v_) {
    v_.inout("keys", keys);
    v_.inout("values", values);
    v_.inout("counts", counts);
    v_.input("q", q);
    v_.input("k", k);
    v_.input("v", v);
    v_.input("queryClusters", queryClusters);
    v_.input("keyClusters", keyClusters);
    v_.number("scale", scale);
    v_.flag("lastResort", lastResort);
    v_.number("selfPenalty", selfPenalty);
    v_.output("o", o);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_BY_LEVEL(size_t, routingStepWorkspace, const ops::RoutingStep&, int)
LONGSPAN_CPU_KERNEL(ops::RoutingStep, routingStep)
}  // namespace longspan::cpu
