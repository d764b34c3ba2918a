#include "cpp/ops/sparse/kmeans.h"

#include <algorithm>

#include "cpp/ops/check.h"
#include "cpp/ops/sparse/tokens.h"

namespace longspan::ops {
namespace {

Status centroidsOf(const TensorView& x, const TensorView& centroids) {
  LONGSPAN_RETURN_IF_ERROR(sparseTokens("x", x));
  LONGSPAN_RETURN_IF_ERROR(check::floating("centroids", centroids));
  LONGSPAN_RETURN_IF_ERROR(check::rank("centroids", centroids, 3));
  const int64_t k = centroids.shape[1];
  if (k < 1 || k >= int64_t{1} << 22) {
    return Status(Code::shape, "centroids", describe(centroids), "Use from 1 to 2^22 - 1 clusters");
  }
  return check::shape("centroids", centroids, {x.shape[1], k, x.shape[3]});
}

DType statistic(const TensorView& x) { return x.dtype == DType::f64 ? DType::f64 : DType::f32; }

TensorView perToken(const TensorView& x, DType dtype) {
  return TensorView::ofShape(dtype, {x.shape[0], x.shape[1], x.shape[2]});
}

Status assigned(const TensorView& assignments, const TensorView& x) {
  LONGSPAN_RETURN_IF_ERROR(check::dtype("assignments", assignments, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("assignments", assignments, {x.shape[0], x.shape[1], x.shape[2]}));
  return check::contiguous("assignments", assignments);
}

}  // namespace

Status KmeansAssign::validate() {
  LONGSPAN_RETURN_IF_ERROR(centroidsOf(x, centroids));
  LONGSPAN_RETURN_IF_ERROR(sparseLengths("lengths", lengths, x));
  assignments = perToken(x, DType::i32);
  scores = perToken(x, statistic(x));
  return {};
}

size_t KmeansAssign::workspace(int threads) const {
  return projectionWorkspace(x, x.shape[1] * clusters(), threads);
}

Status ClusterSums::validate() {
  LONGSPAN_RETURN_IF_ERROR(sparseTokens("x", x));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("order", order, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::shape("order", order, {x.shape[0], x.shape[1], x.shape[2]}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("order", order));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("offsets", offsets, DType::i32));
  LONGSPAN_RETURN_IF_ERROR(check::rank("offsets", offsets, 3));
  LONGSPAN_RETURN_IF_ERROR(check::shape(
      "offsets", offsets, {x.shape[0], x.shape[1], std::max<int64_t>(2, offsets.shape[2])}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("offsets", offsets));
  sums = TensorView::ofShape(statistic(x), {x.shape[1], clusters(), x.shape[3]});
  counts = TensorView::ofShape(statistic(x), {x.shape[1], clusters()});
  return {};
}

Status KmeansUpdate::validate() {
  LONGSPAN_RETURN_IF_ERROR(centroidsOf(x, centroids));
  if (centroids.dtype != DType::f32 && centroids.dtype != DType::f64) {
    return Status(Code::dtype, "centroids", describe(centroids),
                  "Keep averages in f32 or f64: small changes vanish in 16 bits");
  }
  const int64_t heads = centroids.shape[0], k = clusters(), dim = centroids.shape[2];
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("centroids", centroids));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("sums", sums, "centroids", centroids));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("sums", sums, "centroids", centroids));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("sums", sums));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("counts", counts, "centroids", centroids));
  LONGSPAN_RETURN_IF_ERROR(check::shape("counts", counts, {heads, k}));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous("counts", counts));
  LONGSPAN_RETURN_IF_ERROR(check::generatorState("state", state));
  if (batchSums.defined() != batchCounts.defined()) {
    return Status(Code::value, "batchCounts", batchCounts.defined() ? "given" : "absent",
                  "Give batchSums and batchCounts together");
  }
  if (batchSums.defined()) {
    if (batchSums.dtype != DType::f32 && batchSums.dtype != DType::f64) {
      return Status(Code::dtype, "batchSums", describe(batchSums), "Use f32 or f64");
    }
    LONGSPAN_RETURN_IF_ERROR(check::shape("batchSums", batchSums, {heads, k, dim}));
    LONGSPAN_RETURN_IF_ERROR(check::contiguous("batchSums", batchSums));
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype("batchCounts", batchCounts, "batchSums", batchSums));
    LONGSPAN_RETURN_IF_ERROR(check::shape("batchCounts", batchCounts, {heads, k}));
    LONGSPAN_RETURN_IF_ERROR(check::contiguous("batchCounts", batchCounts));
  }
  LONGSPAN_RETURN_IF_ERROR(sparseLengths("lengths", lengths, x));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("decay", decay, 0, 1));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("epsilon", epsilon, 0, 1));
  return check::inRange("minimum", minimum, 0, 1);
}

Status ClusterMembers::validate() {
  LONGSPAN_RETURN_IF_ERROR(centroidsOf(x, centroids));
  LONGSPAN_RETURN_IF_ERROR(sparseLengths("lengths", lengths, x));
  LONGSPAN_RETURN_IF_ERROR(check::inRange("window", static_cast<double>(window), 1,
                                          static_cast<double>(std::max<int64_t>(1, x.shape[2]))));
  if (x.shape[0] * x.shape[1] * clusters() * window >= int64_t{1} << 31) {
    return Status(Code::value, "window", std::to_string(window),
                  "Use a smaller one: there are fewer than 2^31 members of all clusters");
  }
  members = TensorView::ofShape(DType::i32, {x.shape[0], x.shape[1], clusters(), window});
  return {};
}

// Of each thread the scores of all tokens for a few clusters, and their positions.
size_t ClusterMembers::workspace(int threads) const {
  const size_t element = sizeOf(statistic(x));
  return projectionWorkspace(x, x.shape[1] * clusters(), threads) +
         static_cast<size_t>(threads) * static_cast<size_t>(x.shape[2]) *
             (kMemberClusters * element + sizeof(int32_t));
}

Status CommitmentDistance::validate() {
  LONGSPAN_RETURN_IF_ERROR(centroidsOf(x, centroids));
  LONGSPAN_RETURN_IF_ERROR(assigned(assignments, x));
  distances = perToken(x, statistic(x));
  return {};
}

Status CommitmentDistanceBackward::validate() {
  LONGSPAN_RETURN_IF_ERROR(centroidsOf(x, centroids));
  LONGSPAN_RETURN_IF_ERROR(assigned(assignments, x));
  LONGSPAN_RETURN_IF_ERROR(check::dtype("gradDistances", gradDistances, statistic(x)));
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("gradDistances", gradDistances, {x.shape[0], x.shape[1], x.shape[2]}));
  gradX = TensorView::like(x);
  return {};
}

LONGSPAN_OPERATOR(KmeansAssign, kmeansAssign);
LONGSPAN_OPERATOR(ClusterSums, clusterSums);
LONGSPAN_OPERATOR(KmeansUpdate, kmeansUpdate);
LONGSPAN_OPERATOR(ClusterMembers, clusterMembers);
LONGSPAN_OPERATOR(CommitmentDistance, commitmentDistance);
LONGSPAN_OPERATOR(CommitmentDistanceBackward, commitmentDistanceBackward);

}  // namespace longspan::ops
