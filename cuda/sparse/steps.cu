// For routingStep and lshStep: a block per head, its tokens one after another. A token joins its
// group in every round (of routing there is one), then sees the last keys of its groups: rows of
// the group's own ring, or rows of the cache that the group's list names. A warp takes a key at a
// time for its logit; lane s looks the key up in what round s sees, where duplicates are corrected.
// Then each thread adds up elements of the values. Keys are taken in pieces of kStepLogits, whose
// sums are rescaled by the running maximum (Milakov and Gimelshein 2018), the rounds one after
// another.
//
// 2 W (D + Dv) FLOPs for a token that sees W keys in all rounds, each element read once: bound by
// latency for one token, some 10 us on an H200 for a window of 128; predicted are 40 us for lists
// of 4 rounds with 128 keys each. Before there were lists, rings were right on an H200; not yet run
// on hardware as it is now.
#include <algorithm>

#include "cpp/ops/sparse/routing_step.h"
#include "cuda/sparse/steps.cuh"

namespace longspan::cuda {
namespace {

constexpr int kStepThreads = 256, kStepWarps = kStepThreads / 32, kStepLogits = 256;
static_assert(ops::kMostRoutedDim <= kStepThreads, "a thread per element of the output");

// Ranks [begin, end) of a group, which is the at-th of all.
struct SeenRanks {
  int64_t at;
  int begin, end;
};

__device__ __forceinline__ SeenRanks seenRanks(const StepJob& job, int64_t line, int64_t t,
                                               int round) {
  const int64_t groups = line * job.rounds + round;
  const int64_t group = job.queryGroups[groups * job.q.n + t];
  if (group < 0 || group >= job.groups) return {0, 0, 0};
  const int64_t at = groups * job.groups + group;
  const int end = job.counts[at];
  int begin = max(0, end - job.slots);
  if (job.lists != nullptr) {
    const int chunks = (end - 1) / job.chunk - job.back;
    if (chunks > 0) begin = max(begin, chunks * job.chunk);
  }
  return {at, begin, end};
}

// Whether the list has `position` among its ranks, at which positions ascend.
__device__ __forceinline__ bool isListed(const StepJob& job, SeenRanks seen, int position) {
  int low = seen.begin, high = seen.end;
  while (low < high) {
    const int middle = low + (high - low) / 2;
    if (job.lists[seen.at * job.slots + middle % job.slots] < position) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < seen.end && job.lists[seen.at * job.slots + low % job.slots] == position;
}

__global__ void __launch_bounds__(kStepThreads, 2) stepKernel(const __grid_constant__ StepJob job) {
  LONGSPAN_SHARED(shared);
  float* const logits = reinterpret_cast<float*>(shared + kTeamScratch);  // [kStepLogits]
  int* const rows = reinterpret_cast<int*>(logits + kStepLogits);         // [kStepLogits]
  float* const query = reinterpret_cast<float*>(rows + kStepLogits);      // [dim]
  Team team(kStepThreads, shared);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int64_t b = blockIdx.y, h = blockIdx.x, line = b * job.q.heads + h;
  const int64_t dim = job.q.dim, valueDim = job.values.dim, tokens = job.q.n;
  const auto inside = [&](int64_t group) { return group >= 0 && group < job.groups; };
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t position = job.lists != nullptr ? job.lengths[b] - tokens + t : 0;
    const int64_t out = (line * tokens + t) * valueDim;
    if (position < 0 || position >= job.keys.n) {  // the cache had no room
      if (job.attends && thread < valueDim) job.o.store(out + thread, NAN);
      continue;
    }
    const int64_t queryRow = job.q.at(b, h, t);
    for (int64_t d = thread; d < dim; d += kStepThreads) query[d] = job.q.load(queryRow, d);
    if (job.lists == nullptr) {
      const int64_t group = job.keyGroups[line * tokens + t];
      if (inside(group)) {
        const int64_t slot = group * job.slots + job.counts[line * job.groups + group] % job.slots;
        const int64_t keyRow = job.k.at(b, h, t), valueRow = job.v.at(b, h, t);
        const int64_t keySlot = job.keys.at(b, h, slot), valueSlot = job.values.at(b, h, slot);
        for (int64_t d = thread; d < dim; d += kStepThreads) {
          job.keys.elements.store(keySlot + d, job.k.load(keyRow, d));
        }
        for (int64_t d = thread; d < valueDim; d += kStepThreads) {
          job.values.elements.store(valueSlot + d, job.v.load(valueRow, d));
        }
      }
    }
    __syncthreads();  // everybody has read the count
    if (thread < job.rounds) {
      const int64_t round = line * job.rounds + thread;
      const int64_t group = job.keyGroups[round * tokens + t];
      if (inside(group)) {
        const int64_t at = round * job.groups + group;
        const int before = job.counts[at];
        if (job.lists != nullptr) {
          job.lists[at * job.slots + before % job.slots] = static_cast<int>(position);
        }
        job.counts[at] = before + 1;
      }
    }
    __syncthreads();  // counts, lists and rows are there
    if (!job.attends) continue;
    const bool corrects = job.rounds > 1;
    SeenRanks ofLane{0, 0, 0};  // what round `lane` sees
    if (corrects && lane < job.rounds) ofLane = seenRanks(job, line, t, lane);
    float most = -INFINITY, total = 0, sum = 0;
    for (int round = 0; round < job.rounds; ++round) {
      const SeenRanks seen = seenRanks(job, line, t, round);
      const int64_t groupAt = (line * job.rounds + round) * tokens + t;
      const int64_t firstRow = job.queryGroups[groupAt] * static_cast<int64_t>(job.slots);
      const bool ownGroup = job.lastResort && job.keyGroups[groupAt] == job.queryGroups[groupAt];
      for (int piece = seen.begin; piece < seen.end; piece += kStepLogits) {
        const int count = min(kStepLogits, seen.end - piece);
        for (int i = warp; i < count; i += kStepWarps) {
          const int rank = piece + i, slot = rank % job.slots;
          const int row = job.lists != nullptr ? job.lists[seen.at * job.slots + slot]
                                               : static_cast<int>(firstRow) + slot;
          const int64_t keyRow = job.keys.at(b, h, row);
          float product = 0;
          for (int64_t d = lane; d < dim; d += 32) product += query[d] * job.keys.load(keyRow, d);
          product = warpSum(product);
          float logit = ownGroup && rank == seen.end - 1 ? job.own : job.scale * product;
          if (corrects) logit -= logf(warpSum(isListed(job, ofLane, row) ? 1.0f : 0.0f));
          if (lane == 0) {
            logits[i] = logit;
            rows[i] = row;
          }
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
            sum += weight * job.values.load(job.values.at(b, h, rows[i]), thread);
          }
        }
        __syncthreads();  // logits and rows have been read
      }
    }
    if (thread < valueDim) job.o.store(out + thread, total > 0 ? sum / total : 0.0f);
  }
}

}  // namespace

Status launchSteps(const StepJob& job, const TensorView& q, Context& context) {
  if (q.shape[0] * q.shape[1] * q.shape[2] == 0) return {};
  const dim3 grid(static_cast<uint32_t>(q.shape[1]), static_cast<uint32_t>(q.shape[0]));
  const size_t bytes =
      kTeamScratch + static_cast<size_t>(2 * kStepLogits + q.shape[3]) * sizeof(float);
  return launched(launch(stepKernel, grid, dim3(kStepThreads), bytes, context.stream, job));
}

}  // namespace longspan::cuda
