// Online spherical k-means over the tokens of each head, for routing (Roy, Saffar, Vaswani and
// Grangier 2021, "Efficient content-based sparse attention with Routing Transformers"). Tokens
// count by their directions, x / |x|; a zero vector is itself. Centroids [H, k, D] are shared by
// the batch.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

// The nearest centroid of each token: argmax of x . centroid, the first of equal ones. Padding gets
// cluster k, which is none.
struct KmeansAssign {
  static constexpr const char* name = "kmeansAssign";
  TensorView x;            // [B, H, N, D]
  TensorView centroids;    // [H, k, D]
  TensorView lengths;      // i32 [B]
  TensorView assignments;  // i32 [B, H, N]
  TensorView scores;       // [B, H, N]: x . centroid / |x|, 0 for padding

  int64_t clusters() const { return centroids.shape[1]; }

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.input("centroids", centroids);
    v.optional("lengths", lengths);
    v.output("assignments", assignments);
    v.output("scores", scores);
  }
  Status validate();
  size_t workspace(int threads) const;
};

// What of a batch belongs to each cluster: sums of directions and counts, members in order. Order
// and offsets are those of bucketSort.
struct ClusterSums {
  static constexpr const char* name = "clusterSums";
  TensorView x;        // [B, H, N, D]
  TensorView order;    // i32 [B, H, N]
  TensorView offsets;  // i32 [B, H, k + 1]
  TensorView sums;     // [H, k, D]
  TensorView counts;   // [H, k]

  int64_t clusters() const { return offsets.shape[2] - 1; }

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.input("order", order);
    v.input("offsets", offsets);
    v.output("sums", sums);
    v.output("counts", counts);
  }
  Status validate();
};

// counts: the moving averages of sums and counts, divided; counts with Laplace's smoothing, so that
// (c + epsilon) / (total + k epsilon) is a cluster's share. means: the moving average of the
// directions of the sums; a cluster without members keeps its centroid.
enum class CentroidRule : uint8_t { counts, means };

// Moves centroids by what a batch gave, in place; the averages of sums and counts too, with either
// rule. A cluster whose average count falls below `minimum` of the mean one starts anew from the
// direction of a random token of x, with the mean count; with `reset` all do, and counts are 0.
// Word i of the generator's state chooses for cluster i of [H, k]; the state moves on.
struct KmeansUpdate {
  static constexpr const char* name = "kmeansUpdate";
  TensorView centroids, sums;         // f32 or f64 [H, k, D]
  TensorView counts;                  // [H, k]
  TensorView state;                   // i32[4]
  TensorView batchSums, batchCounts;  // [H, k, D], [H, k]; absent where there is no batch
  TensorView x;                       // [B, H, N, D]
  TensorView lengths;                 // i32 [B]
  double decay = 0, epsilon = 0, minimum = 0;
  CentroidRule rule = CentroidRule::counts;
  bool reset = false;

  int64_t clusters() const { return centroids.shape[1]; }

  template <class V>
  void fields(V& v) {
    v.inout("centroids", centroids);
    v.inout("sums", sums);
    v.inout("counts", counts);
    v.inout("state", state);
    v.optional("batchSums", batchSums);
    v.optional("batchCounts", batchCounts);
    v.input("x", x);
    v.optional("lengths", lengths);
    v.number("decay", decay);
    v.number("epsilon", epsilon);
    v.number("minimum", minimum);
    v.choice("rule", rule, {"counts", "means"});
    v.flag("reset", reset);
  }
  Status validate();
};

// The `window` tokens nearest to each centroid over the whole sequence, the earlier of equal ones,
// in the order of positions; -1 behind them where there are fewer.
inline constexpr int64_t kMemberClusters = 16;  // that the CPU scores at a time
struct ClusterMembers {
  static constexpr const char* name = "clusterMembers";
  TensorView x;          // [B, H, N, D]
  TensorView centroids;  // [H, k, D]
  TensorView lengths;    // i32 [B]
  TensorView members;    // i32 [B, H, k, window]
  int64_t window = 1;

  int64_t clusters() const { return centroids.shape[1]; }

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.input("centroids", centroids);
    v.optional("lengths", lengths);
    v.integer("window", window);
    v.output("members", members);
  }
  Status validate();
  size_t workspace(int threads) const;
};

// |x / |x| - centroid|^2 of each token and its cluster; 0 for tokens in none.
struct CommitmentDistance {
  static constexpr const char* name = "commitmentDistance";
  TensorView x;            // [B, H, N, D]
  TensorView centroids;    // [H, k, D]
  TensorView assignments;  // i32 [B, H, N]
  TensorView distances;    // [B, H, N]

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.input("centroids", centroids);
    v.input("assignments", assignments);
    v.output("distances", distances);
  }
  Status validate();
};

struct CommitmentDistanceBackward {
  static constexpr const char* name = "commitmentDistanceBackward";
  TensorView x, centroids, assignments;
  TensorView gradDistances;  // [B, H, N]
  TensorView gradX;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.input("centroids", centroids);
    v.input("assignments", assignments);
    v.input("gradDistances", gradDistances);
    v.output("gradX", gradX);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::KmeansAssign, kmeansAssign)
LONGSPAN_CPU_KERNEL(ops::ClusterSums, clusterSums)
LONGSPAN_CPU_KERNEL(ops::ClusterMembers, clusterMembers)
LONGSPAN_CPU_KERNEL(ops::CommitmentDistance, commitmentDistance)
LONGSPAN_CPU_KERNEL(ops::CommitmentDistanceBackward, commitmentDistanceBackward)
Status kmeansUpdate(const ops::KmeansUpdate& p, Context& context);
}  // namespace longspan::cpu
