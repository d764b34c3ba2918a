// Decoding of routed attention; the kernel, and what it costs, is in steps.cu.
#include "cpp/ops/sparse/routing_step.h"
#include "cuda/sparse/steps.cuh"

namespace longspan::cuda {
namespace {

Status routingStep(const ops::RoutingStep& p, Context& context) {
  StepJob job{};
  job.q = TokenRows(p.q);
  job.k = TokenRows(p.k);
  job.v = TokenRows(p.v);
  job.keys = TokenRows(ops::RoutingStep::slotRows(p.keys));
  job.values = TokenRows(ops::RoutingStep::slotRows(p.values));
  job.o = AnyElements(p.o);
  job.counts = p.counts.data<int32_t>();
  job.queryGroups = p.queryClusters.data<int32_t>();
  job.keyGroups = p.keyClusters.data<int32_t>();
  job.groups = p.clusters();
  job.rounds = 1;
  job.slots = static_cast<int>(p.window());
  job.scale = static_cast<float>(p.scale);
  job.own = static_cast<float>(-p.selfPenalty);
  job.lastResort = p.lastResort;
  job.attends = true;
  return launchSteps(job, p.q, context);
}

LONGSPAN_CUDA_OPERATOR(RoutingStep, routingStep);

}  // namespace
}  // namespace longspan::cuda
