// routingStep: a block per head, its tokens one after another. A warp takes a key of the window at
// a time for its logit; then each thread adds up elements of the values. Windows longer than
// kStepLogits are taken in pieces, whose sums are rescaled by the running maximum. 2 W (D + Dv)
// FLOPs a token and each element of the window read once: bound by latency for one token, some 10
// us on an H200 for a window of 128. Right on an H200, not timed there.
#include "cpp/ops/sparse/routing_step.h"
#include "cuda/context.h"
#include "cuda/dispatch.cuh"
#include "cuda/sparse/token_rows.cuh"

namespace longspan::cuda {
namespace {

constexpr int kStepThreads = 256, kStepWarps = kStepThreads / 32, kStepLogits = 256;
static_assert(ops::kMostRoutedDim <= kStepThreads, "a thread per element of the output");

struct RoutingStepJob {
  TokenRows q, k, v;
  AnyElements keys, values, o;
  int32_t* counts;
  const int32_t *queryClusters, *keyClusters;
  int64_t clusters;
  int window;
  float scale, own;
  bool lastResort;
};

__global__ void __launch_bounds__(kStepThreads)
    routingStepKernel(const __grid_constant__ RoutingStepJob job) {
  LONGSPAN_SHARED(shared);
  float* const logits = reinterpret_cast<float*>(shared + kTeamScratch);  // [kStepLogits]
  float* const query = logits + kStepLogits;                              // [dim]
  Team team(kStepThreads, shared);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int64_t line = static_cast<int64_t>(blockIdx.y) * job.q.heads + blockIdx.x;
  const int64_t dim = job.q.dim, valueDim = job.v.dim, tokens = job.q.n;
  int32_t* const counts = job.counts + line * job.clusters;
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t keyCluster = job.keyClusters[line * tokens + t],
                  cluster = job.queryClusters[line * tokens + t];
    const bool keeps = keyCluster >= 0 && keyCluster < job.clusters,
               sees = cluster >= 0 && cluster < job.clusters;
    const int before = keeps ? counts[keyCluster] : 0, slot = before % job.window;
    const int64_t queryRow = job.q.at(blockIdx.y, blockIdx.x, t);
    for (int64_t d = thread; d < dim; d += kStepThreads) query[d] = job.q.load(queryRow, d);
    if (keeps) {
      const int64_t row = (line * job.clusters + keyCluster) * job.window + slot;
      const int64_t keyRow = job.k.at(blockIdx.y, blockIdx.x, t),
                    valueRow = job.v.at(blockIdx.y, blockIdx.x, t);
      for (int64_t d = thread; d < dim; d += kStepThreads) {
        job.keys.store(row * dim + d, job.k.load(keyRow, d));
      }
      for (int64_t d = thread; d < valueDim; d += kStepThreads) {
        job.values.store(row * valueDim + d, job.v.load(valueRow, d));
      }
    }
    __syncthreads();  // everybody knows the count, and sees the row
    if (keeps && thread == 0) counts[keyCluster] = before + 1;
    __syncthreads();
    const int64_t seen = sees ? min(counts[cluster], job.window) : 0;
    const int64_t self = job.lastResort && keeps && keyCluster == cluster ? slot : -1;
    const int64_t first = (line * job.clusters + cluster) * job.window;
    float most = -INFINITY, total = 0, sum = 0;
    for (int64_t piece = 0; piece < seen; piece += kStepLogits) {
      const int count = static_cast<int>(min(static_cast<int64_t>(kStepLogits), seen - piece));
      for (int i = warp; i < count; i += kStepWarps) {
        float product = 0;
        for (int64_t d = lane; d < dim; d += 32) {
          product += query[d] * loadFloat(job.keys, (first + piece + i) * dim + d);
        }
        product = warpSum(product);
        if (lane == 0) logits[i] = piece + i == self ? job.own : job.scale * product;
      }
      __syncthreads();
      float here = -INFINITY;
      for (int i = thread; i < count; i += kStepThreads) here = fmaxf(here, logits[i]);
      here = fmaxf(most, team.all(here, Larger{}));
      const float shrink = most == -INFINITY ? 0.0f : expf(most - here);
      most = here;
      total *= shrink;
      sum *= shrink;
      for (int i = 0; i < count; ++i) {
        const float weight = expf(logits[i] - most);
        total += weight;
        if (thread < valueDim) {
          sum += weight * loadFloat(job.values, (first + piece + i) * valueDim + thread);
        }
      }
      __syncthreads();  // logits have been read
    }
    if (thread < valueDim) {
      job.o.store((line * tokens + t) * valueDim + thread, seen > 0 ? sum / total : 0.0f);
    }
  }
}

Status routingStep(const ops::RoutingStep& p, Context& context) {
  if (p.o.numel() == 0) return {};
  RoutingStepJob job{};
  job.q = TokenRows(p.q);
  job.k = TokenRows(p.k);
  job.v = TokenRows(p.v);
  job.keys = AnyElements(p.keys);
  job.values = AnyElements(p.values);
  job.o = AnyElements(p.o);
  job.counts = p.counts.data<int32_t>();
  job.queryClusters = p.queryClusters.data<int32_t>();
  job.keyClusters = p.keyClusters.data<int32_t>();
  job.clusters = p.clusters();
  job.window = static_cast<int>(p.window());
  job.scale = static_cast<float>(p.scale);
  job.own = static_cast<float>(-p.selfPenalty);
  job.lastResort = p.lastResort;
  const dim3 grid(static_cast<uint32_t>(p.q.shape[1]), static_cast<uint32_t>(p.q.shape[0]));
  const size_t bytes =
      kTeamScratch + static_cast<size_t>(kStepLogits + p.q.shape[3]) * sizeof(float);
  return launched(launch(routingStepKernel, grid, dim3(kStepThreads), bytes, context.stream, job));
}

LONGSPAN_CUDA_OPERATOR(RoutingStep, routingStep);

}  // namespace
}  // namespace longspan::cuda
