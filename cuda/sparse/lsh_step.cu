// Decoding of attention by hashing; the kernel, and what it costs, is in steps.cu.
#include <limits>

#include "cpp/ops/sparse/lsh_step.h"
#include "cuda/sparse/steps.cuh"

namespace longspan::cuda {
namespace {

Status lshStep(const ops::LshStep& p, Context& context) {
  if (p.rounds() > kMostStepRounds) {
    return Status(Code::failed, "lists", std::to_string(p.rounds()) + " rounds",
                  "Use at most " + std::to_string(kMostStepRounds) + " rounds on a GPU");
  }
  StepJob job{};
  job.q = TokenRows(p.q);
  job.keys = TokenRows(p.keys);
  job.values = TokenRows(p.values);
  if (p.attends) job.o = AnyElements(p.o);
  job.counts = p.counts.data<int32_t>();
  job.lists = p.lists.data<int32_t>();
  job.lengths = p.lengths.data<int32_t>();
  job.queryGroups = job.keyGroups = p.buckets.data<int32_t>();
  job.groups = p.bucketCount();
  job.chunk = static_cast<int>(std::min<int64_t>(p.chunk, std::numeric_limits<int>::max()));
  job.back = static_cast<int>(std::min<int64_t>(p.back, std::numeric_limits<int>::max()));
  job.rounds = static_cast<int>(p.rounds());
  job.slots = static_cast<int>(p.slots());
  job.scale = static_cast<float>(p.scale);
  job.own = static_cast<float>(-p.selfPenalty);
  job.lastResort = true;
  job.attends = p.attends;
  return launchSteps(job, p.q, context);
}

LONGSPAN_CUDA_OPERATOR(LshStep, lshStep);

}  // namespace
}  // namespace longspan::cuda
