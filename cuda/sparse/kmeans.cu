// k-means of tokens. kmeansAssign is a projection, see projection.cu.
//
// clusterSums: a block per cluster, a warp per member at a time, members in order; the warps' sums
// are added in order. Reads each token once (a second time from the L1): D + 8 bytes per element of
// x and member. Half of copy speed is expected of an H200 for rows of 128 bytes or more, less where
// one cluster holds most of a head.
//
// clusterMembers: a block per cluster finds the w-th best score digit by digit (radix select,
// Alabi et al. 2012), then writes whoever is better in order, and of equal ones the first. Scores
// are computed anew for each of the five passes, 2 D FLOPs each, so that they need no memory.
//
// kmeansUpdate: one block, 6 k D numbers of each head. commitmentDistance: a warp per token, a read
// of x and of its centroid; backward a write of x.
//
// Sums of a cluster are f32 here and f64 on the CPU. Right on an H200; times:
// bench/results/nvidia-h200.json.
#include <algorithm>

#include "cpp/core/philox.h"
#include "cpp/ops/sparse/kmeans.h"
#include "cuda/elementwise.cuh"
#include "cuda/sparse/projection.cuh"
#include "cuda/sparse/token_rows.cuh"

namespace longspan::cuda {
namespace {

constexpr int kClusterWarps = kThreads / 32;

__global__ void __launch_bounds__(kThreads)
    clusterSumsKernel(const __grid_constant__ TokenRows x, const int32_t* orders,
                      const int32_t* allOffsets, float* sums, float* counts, int64_t batch,
                      int64_t k) {
  LONGSPAN_SHARED(shared);
  float* const partial = reinterpret_cast<float*>(shared);  // [kClusterWarps][dim]
  const int64_t h = blockIdx.x / k, c = blockIdx.x - h * k;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  float* const sum = partial + warp * x.dim;  // a lane adds to elements of its own
  for (int64_t d = lane; d < x.dim; d += 32) sum[d] = 0;
  int64_t members = 0;
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t line = b * x.heads + h;
    const int32_t* const order = orders + line * x.n;
    const int32_t* const offsets = allOffsets + line * (k + 1);
    const int64_t begin = max(offsets[c], 0), end = min(static_cast<int64_t>(offsets[c + 1]), x.n);
    for (int64_t i = begin + warp; i < end; i += kClusterWarps) {
      const int64_t token = order[i];
      if (token < 0 || token >= x.n) continue;
      const int64_t row = x.at(b, h, token);
      const float scale = inverseLengthOf(x, row);
      for (int64_t d = lane; d < x.dim; d += 32) sum[d] += scale * x.load(row, d);
    }
    members += end > begin ? end - begin : 0;
  }
  __syncthreads();
  for (int64_t d = threadIdx.x; d < x.dim; d += kThreads) {
    float total = 0;
    for (int w = 0; w < kClusterWarps; ++w) total += partial[w * x.dim + d];
    sums[blockIdx.x * x.dim + d] = total;
  }
  if (threadIdx.x == 0) counts[blockIdx.x] = static_cast<float>(members);
}

Status clusterSums(const ops::ClusterSums& p, Context& context) {
  const int64_t k = p.clusters(), blocks = p.x.shape[1] * k;
  if (blocks == 0) return {};
  const size_t bytes = static_cast<size_t>(kClusterWarps * p.x.shape[3]) * sizeof(float);
  return launched(launch(clusterSumsKernel, dim3(static_cast<uint32_t>(blocks)), dim3(kThreads),
                         bytes, context.stream, TokenRows(p.x), p.order.data<int32_t>(),
                         p.offsets.data<int32_t>(), p.sums.data<float>(), p.counts.data<float>(),
                         p.x.shape[0], k));
}

struct CentroidJob {
  TokenRows x;
  const int32_t* lengths;                // null: no padding
  float *centroids, *sums, *counts;      // [H, k, D], [H, k]
  const float *batchSums, *batchCounts;  // null: no batch
  int32_t* state;
  int64_t batch, k;
  float decay, epsilon, minimum;
  bool means, reset;
};

// target = the direction of the token that `word` chooses, by a warp; false where it has none.
__device__ __forceinline__ bool takeToken(const CentroidJob& job, int64_t h, uint32_t word,
                                          float* target) {
  const TokenRows& x = job.x;
  const int64_t tokens = job.batch * x.n;
  if (tokens == 0) return false;
  const auto place = static_cast<int64_t>(word * static_cast<uint64_t>(tokens) >> 32);
  const int64_t b = place / x.n;
  int64_t length = x.n;
  if (job.lengths != nullptr) length = min(length, static_cast<int64_t>(job.lengths[b]));
  if (length < 1) return false;
  const int64_t row = x.at(b, h, (place - b * x.n) % length);
  float squares = 0;
  for (int64_t d = threadIdx.x % 32; d < x.dim; d += 32) {
    const float value = x.load(row, d);
    squares += value * value;
  }
  squares = warpSum(squares);
  if (!(squares > 0 && squares < INFINITY)) return false;
  const float scale = 1.0f / sqrtf(squares);
  for (int64_t d = threadIdx.x % 32; d < x.dim; d += 32) target[d] = x.load(row, d) * scale;
  return true;
}

__global__ void __launch_bounds__(kThreads)
    kmeansUpdateKernel(const __grid_constant__ CentroidJob job) {
  LONGSPAN_SHARED(shared);
  Team team(kThreads, shared);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int64_t dim = job.x.dim, k = job.k;
  const PhiloxState state = loadPhilox(job.state);
  const float rest = 1.0f - job.decay;
  for (int64_t h = 0; h < job.x.heads; ++h) {
    float* const counts = job.counts + h * k;
    float own = 0;
    for (int64_t c = threadIdx.x; c < k; c += kThreads) {
      float count = job.reset ? 0.0f : counts[c];
      if (!job.reset && job.batchCounts != nullptr) {
        count = job.decay * count + rest * job.batchCounts[h * k + c];
      }
      counts[c] = count;
      own += count;
    }
    // Its barriers show everybody the counts.
    const float total = team.sum(own), mean = total / static_cast<float>(k);
    for (int64_t c = warp; c < k; c += kClusterWarps) {
      float* const centroid = job.centroids + (h * k + c) * dim;
      float* const sum = job.sums + (h * k + c) * dim;
      const float count = counts[c];
      __syncwarp();
      if (job.reset || count < job.minimum * mean) {
        const auto index = static_cast<uint64_t>(h * k + c);
        const uint32_t word = philox(state, index / 4).word[index % 4];
        if (takeToken(job, h, word, centroid)) {
          if (lane == 0) counts[c] = mean;
          // Each lane reads what it has written itself.
          for (int64_t d = lane; d < dim; d += 32) sum[d] = centroid[d] * mean;
          continue;
        }
      }
      if (job.batchSums == nullptr) continue;
      const float* const batch = job.batchSums + (h * k + c) * dim;
      float squares = 0;
      for (int64_t d = lane; d < dim; d += 32) {
        squares += batch[d] * batch[d];
        sum[d] = job.decay * sum[d] + rest * batch[d];
      }
      squares = warpSum(squares);
      if (job.means) {
        if (!(squares > 0)) continue;
        const float scale = 1.0f / sqrtf(squares);
        for (int64_t d = lane; d < dim; d += 32) {
          centroid[d] = job.decay * centroid[d] + rest * (batch[d] * scale);
        }
      } else if (count > 0) {
        const float share = (count + job.epsilon) / (total + static_cast<float>(k) * job.epsilon);
        const float scale = 1.0f / (share * total);
        for (int64_t d = lane; d < dim; d += 32) centroid[d] = sum[d] * scale;
      }
    }
  }
  // Everybody has read the state before the first sum.
  if (threadIdx.x == 0) {
    PhiloxState next = state;
    next.offset += static_cast<uint64_t>((job.x.heads * k + 3) / 4);
    storePhilox(job.state, next);
  }
}

Status kmeansUpdate(const ops::KmeansUpdate& p, Context& context) {
  CentroidJob job{};
  job.x = TokenRows(p.x);
  job.lengths = p.lengths.defined() ? p.lengths.data<int32_t>() : nullptr;
  job.centroids = p.centroids.data<float>();
  job.sums = p.sums.data<float>();
  job.counts = p.counts.data<float>();
  if (p.batchSums.defined()) {
    job.batchSums = p.batchSums.data<float>();
    job.batchCounts = p.batchCounts.data<float>();
  }
  job.state = p.state.data<int32_t>();
  job.batch = p.x.shape[0];
  job.k = p.clusters();
  job.decay = static_cast<float>(p.decay);
  job.epsilon = static_cast<float>(p.epsilon);
  job.minimum = static_cast<float>(p.minimum);
  job.means = p.rule == ops::CentroidRule::means;
  job.reset = p.reset;
  return launched(
      launch(kmeansUpdateKernel, dim3(1), dim3(kThreads), kTeamScratch, context.stream, job));
}

// An unsigned image in the order of scores; NaN below all.
__device__ __forceinline__ uint32_t orderOfScore(float x) {
  if (x != x) return 0;
  const uint32_t bits = x == 0 ? 0u : __float_as_uint(x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

constexpr int kScoreDigits = 256;
static_assert(kThreads == kScoreDigits, "thread d looks after digit d");

__global__ void __launch_bounds__(kThreads)
    clusterMembersKernel(const __grid_constant__ TokenRows x,
                         const __grid_constant__ AnyElements centroids, int64_t centroidHead,
                         int64_t centroidCluster, int64_t centroidStep, const int32_t* lengths,
                         int32_t* allMembers, int64_t k, int64_t window) {
  LONGSPAN_SHARED(shared);
  uint32_t* const counts = reinterpret_cast<uint32_t*>(shared + kTeamScratch);  // [kScoreDigits]
  uint32_t* const keys = counts + kScoreDigits;                                 // [kThreads]
  uint32_t* const chosen = keys + kThreads;                                     // digit, before it
  float* const centroid = reinterpret_cast<float*>(chosen + 2);                 // [dim]
  Team team(kThreads, shared);
  const int64_t line = blockIdx.x / k, c = blockIdx.x - line * k;
  const int64_t b = line / x.heads, h = line - b * x.heads;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  int64_t length = x.n;
  if (lengths != nullptr) length = max(int64_t{0}, min(length, static_cast<int64_t>(lengths[b])));
  const int64_t wanted = min(window, length);
  for (int64_t d = thread; d < x.dim; d += kThreads) {
    centroid[d] = loadFloat(centroids, h * centroidHead + c * centroidCluster + d * centroidStep);
  }

  // keys[i] = that of token first + i, after a barrier.
  const auto score = [&](int64_t first) {
    __syncthreads();
    for (int i = warp; i < kThreads; i += kClusterWarps) {
      if (first + i >= length) break;
      const int64_t row = x.at(b, h, first + i);
      float product = 0, squares = 0;
      for (int64_t d = lane; d < x.dim; d += 32) {
        const float value = x.load(row, d);
        product += value * centroid[d];
        squares += value * value;
      }
      product = warpSum(product);
      squares = warpSum(squares);
      if (lane == 0) keys[i] = orderOfScore(product * inverseLength(squares));
    }
  };

  uint32_t prefix = 0;    // the digits of the last one taken that are known
  int64_t open = wanted;  // how many of those with these digits are taken
  for (int shift = 24; shift >= 0 && wanted < length; shift -= 8) {
    counts[thread] = 0;
    for (int64_t first = 0; first < length; first += kThreads) {
      score(first);
      __syncthreads();
      const uint32_t known = shift == 24 ? 0 : ~uint32_t{0} << (shift + 8);
      if (first + thread < length && (keys[thread] & known) == prefix) {
        atomicAdd(&counts[keys[thread] >> shift & (kScoreDigits - 1)], 1u);
      }
    }
    __syncthreads();
    // From the largest digit down: the one where the count of those above reaches beyond `open`.
    const uint32_t own = counts[kScoreDigits - 1 - thread];
    uint32_t all;
    const uint32_t above = team.before(own, all);
    if (above < open && above + own >= open) {
      chosen[0] = static_cast<uint32_t>(kScoreDigits - 1 - thread);
      chosen[1] = above;
    }
    __syncthreads();
    prefix |= chosen[0] << shift;
    open -= chosen[1];
  }

  int32_t* const members = allMembers + blockIdx.x * window;
  int64_t written = 0, equals = 0;
  for (int64_t first = 0; first < length; first += kThreads) {
    score(first);
    __syncthreads();
    const bool here = first + thread < length;
    const uint32_t key = here ? keys[thread] : 0;
    const bool equal = here && wanted < length && key == prefix;
    uint32_t equalsHere, takenHere;
    const uint32_t equalsBefore = team.before(static_cast<uint32_t>(equal), equalsHere);
    const bool taken =
        here && (wanted == length || key > prefix || (equal && equals + equalsBefore < open));
    const uint32_t before = team.before(static_cast<uint32_t>(taken), takenHere);
    if (taken) members[written + before] = static_cast<int32_t>(first + thread);
    written += takenHere;
    equals += equalsHere;
  }
  for (int64_t i = wanted + thread; i < window; i += kThreads) members[i] = -1;
}

Status clusterMembers(const ops::ClusterMembers& p, Context& context) {
  const TensorView& c = p.centroids;
  const int64_t k = p.clusters(), blocks = p.x.shape[0] * p.x.shape[1] * k;
  if (blocks == 0) return {};
  const size_t bytes = kTeamScratch + (kScoreDigits + kThreads + 2) * sizeof(uint32_t) +
                       static_cast<size_t>(p.x.shape[3]) * sizeof(float);
  return launched(launch(clusterMembersKernel, dim3(static_cast<uint32_t>(blocks)), dim3(kThreads),
                         bytes, context.stream, TokenRows(p.x), AnyElements(c), c.stride[0],
                         c.stride[1], c.stride[2],
                         p.lengths.defined() ? p.lengths.data<int32_t>() : nullptr,
                         p.members.data<int32_t>(), k, p.window));
}

struct CommitmentJob {
  TokenRows x;
  AnyElements centroids;
  int64_t centroidHead, centroidCluster, centroidStep, k;
  const int32_t* assignments;  // [B, H, N]
  float* distances;            // [B, H, N]; null: backward
  AnyElements grad, gradX;
  int64_t gradBatch, gradHead, gradToken;
  int64_t tokens;
};

// With u = x / |x|: d |u - c|^2 / dx = 2 (u (u . c) - c) / |x|; shorter than the least length, u is
// x / 1e-12 and the gradient that of a plain distance.
__global__ void __launch_bounds__(kThreads)
    commitmentKernel(const __grid_constant__ CommitmentJob job) {
  const TokenRows& x = job.x;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int64_t token = gridThread() / 32; token < job.tokens; token += gridThreads() / 32) {
    const int64_t line = token / x.n, b = line / x.heads, h = line - b * x.heads;
    const int64_t c = job.assignments[token], row = x.at(b, h, token - line * x.n);
    const bool none = c < 0 || c >= job.k;
    const int64_t centroid = none ? 0 : h * job.centroidHead + c * job.centroidCluster;
    const float scale = none ? 0.0f : inverseLengthOf(x, row);
    float sum = 0;
    for (int64_t d = lane; d < x.dim && !none; d += 32) {
      const float u = x.load(row, d) * scale;
      const float mean = loadFloat(job.centroids, centroid + d * job.centroidStep);
      sum += job.distances != nullptr ? (u - mean) * (u - mean) : u * mean;
    }
    sum = warpSum(sum);
    if (job.distances != nullptr) {
      if (lane == 0) job.distances[token] = sum;
      continue;
    }
    const float along = scale >= 1.0f / kLeastLength ? 1.0f : sum;
    const float grad = loadFloat(
        job.grad, b * job.gradBatch + h * job.gradHead + (token - line * x.n) * job.gradToken);
    for (int64_t d = lane; d < x.dim; d += 32) {
      float value = 0;
      if (!none) {
        const float mean = loadFloat(job.centroids, centroid + d * job.centroidStep);
        value = 2 * grad * scale * (x.load(row, d) * scale * along - mean);
      }
      job.gradX.store(token * x.dim + d, value);
    }
  }
}

template <class P>
CommitmentJob commitmentJob(const P& p) {
  CommitmentJob job{};
  job.x = TokenRows(p.x);
  job.centroids = AnyElements(p.centroids);
  job.centroidHead = p.centroids.stride[0];
  job.centroidCluster = p.centroids.stride[1];
  job.centroidStep = p.centroids.stride[2];
  job.k = p.centroids.shape[1];
  job.assignments = p.assignments.template data<int32_t>();
  job.tokens = p.x.shape[0] * p.x.shape[1] * p.x.shape[2];
  return job;
}

Status launchCommitment(const CommitmentJob& job, Context& context) {
  if (job.tokens == 0) return {};
  return launched(launch(commitmentKernel, dim3(blocksFor(job.tokens, context.gpu, kClusterWarps)),
                         dim3(kThreads), 0, context.stream, job));
}

Status commitmentDistance(const ops::CommitmentDistance& p, Context& context) {
  CommitmentJob job = commitmentJob(p);
  job.distances = p.distances.data<float>();
  return launchCommitment(job, context);
}

Status commitmentDistanceBackward(const ops::CommitmentDistanceBackward& p, Context& context) {
  CommitmentJob job = commitmentJob(p);
  job.grad = AnyElements(p.gradDistances);
  job.gradBatch = p.gradDistances.stride[0];
  job.gradHead = p.gradDistances.stride[1];
  job.gradToken = p.gradDistances.stride[2];
  job.gradX = AnyElements(p.gradX);
  return launchCommitment(job, context);
}

Status kmeansAssign(const ops::KmeansAssign& p, Context& context) {
  ProjectionJob job{};
  const TensorView& c = p.centroids;
  job.columns = AnyElements(c);
  job.columnHead = c.stride[0];
  job.columnColumn = c.stride[1];
  job.columnStep = c.stride[2];
  job.rounds = job.factors = 1;
  job.columnsOf[0] = static_cast<int>(p.clusters());
  job.none = static_cast<int32_t>(p.clusters());
  job.groups = p.assignments.data<int32_t>();
  job.scores = p.scores.data<float>();
  return launchProjection(job, p.x, p.lengths, context);
}

LONGSPAN_CUDA_OPERATOR(KmeansAssign, kmeansAssign);
LONGSPAN_CUDA_OPERATOR(ClusterSums, clusterSums);
LONGSPAN_CUDA_OPERATOR(KmeansUpdate, kmeansUpdate);
LONGSPAN_CUDA_OPERATOR(ClusterMembers, clusterMembers);
LONGSPAN_CUDA_OPERATOR(CommitmentDistance, commitmentDistance);
LONGSPAN_CUDA_OPERATOR(CommitmentDistanceBackward, commitmentDistanceBackward);

}  // namespace
}  // namespace longspan::cuda
