// lshBuckets: the buckets of angular locality-sensitive hashing (Andoni et al. 2015; Kitaev, Kaiser
// and Levskaya 2020, "Reformer"). Of each vector x and round r, bucket = argmax over [x R, -x R]
// with a rotation R of normal numbers and one column per two buckets; the first of equal ones. A
// number of buckets may be a product: each factor has columns of its own, and the bucket is
// h1 + b1 (h2 + b2 (h3 ...)). Tokens at and beyond a length get bucket b1 b2 ..., which is none.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

inline constexpr int kMostFactors = 8;

struct LshBuckets {
  static constexpr const char* name = "lshBuckets";
  TensorView x;                  // [B, H, N, D]
  TensorView rotations;          // [H or 1, rounds, D, columns], columns of the factors in order
  TensorView lengths;            // i32 [B]
  std::vector<int64_t> factors;  // of the number of buckets, each even
  TensorView buckets;            // i32 [B, H, rounds, N]

  int64_t rounds() const { return rotations.shape[1]; }
  int64_t columns() const { return rotations.shape[3]; }
  // The number of buckets.
  int64_t count() const {
    int64_t product = 1;
    for (int64_t f : factors) product *= f;
    return product;
  }

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.input("rotations", rotations);
    v.optional("lengths", lengths);
    v.integers("factors", factors);
    v.output("buckets", buckets);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::LshBuckets, lshBuckets)
}  // namespace longspan::cpu
