// lshStep: decoding of attention by hashing. Of each bucket the positions of its last tokens are
// listed in a ring, so that a token costs rounds x (back + 1) chunks at most, however many came
// before it; keys and values are fetched from the cache through the lists. Tokens are taken one
// after another: token t, of rank r in its bucket, is listed, then sees ranks from (r / chunk -
// back) chunk up to r in every round. That is what sortedAttention with pattern `chunk`, causal,
// gives it in the whole sequence, with duplicates corrected and itself as the last resort.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct LshStep {
  static constexpr const char* name = "lshStep";
  TensorView lists;    // i32 [B, H, R, buckets, slots]: the token of rank r lies in slot r % slots
  TensorView counts;   // i32 [B, H, R, buckets]: tokens that came
  TensorView keys;     // [B, H, capacity, D], with the new tokens
  TensorView values;   // [B, H, capacity, Dv]
  TensorView lengths;  // i32 [B]: tokens in the cache, the new ones are the last
  TensorView q;        // [B, H, T, D]
  TensorView buckets;  // i32 [B, H, R, T]; outside of the buckets: none
  TensorView o;        // [B, H, T, Dv]; 0 where nothing is seen
  int64_t chunk = 1, back = 0;
  double scale = 1, selfPenalty = 0;
  bool attends = true;  // else tokens are listed, and there is no `o`

  int64_t rounds() const { return lists.shape[2]; }
  int64_t bucketCount() const { return lists.shape[3]; }
  int64_t slots() const { return lists.shape[4]; }
  int64_t capacity() const { return keys.shape[2]; }
  // Keys of one round that a token sees, at most.
  int64_t reach() const;

  template <class V>
  void fields(V& v_) {
    v_.inout("lists", lists);
    v_.inout("counts", counts);
    v_.input("keys", keys);
    v_.input("values", values);
    v_.input("lengths", lengths);
    v_.input("q", q);
    v_.input("buckets", buckets);
    v_.integer("chunk", chunk);
    v_.integer("back", back);
    v_.number("scale", scale);
    v_.number("selfPenalty", selfPenalty);
    v_.flag("attends", attends);
    v_.output("o", o);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_BY_LEVEL(size_t, lshStepWorkspace, const ops::LshStep&, int)
LONGSPAN_CPU_KERNEL(ops::LshStep, lshStep)
}  // namespace longspan::cpu
