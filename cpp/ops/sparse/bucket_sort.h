// bucketSort: positions of a line in the order of (group, position): a stable counting sort, linear
// in the length. Groups are buckets of a hash or clusters of k-means; whoever is in none of the
// `count` groups (an id below 0 or from `count` on: padding) comes behind the last of them.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct BucketSort {
  static constexpr const char* name = "bucketSort";
  TensorView groups;  // i32 [..., N]
  TensorView order;   // i32 [..., N]: positions
  TensorView
      offsets;  // i32 [..., count + 1]: where in `order` each group begins, and the last ends
  TensorView inverse;  // i32 [..., N]: the place of each position in `order`, if asked for
  int64_t count = 1;
  bool withInverse = false;

  int64_t length() const { return groups.shape[groups.rank - 1]; }

  template <class V>
  void fields(V& v) {
    v.input("groups", groups);
    v.integer("count", count);
    v.flag("withInverse", withInverse);
    v.output("order", order);
    v.output("offsets", offsets);
    v.output("inverse", inverse);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
Status bucketSort(const ops::BucketSort& p, Context& context);
}  // namespace longspan::cpu
