// Hashing by random rotations; the kernel, and what it costs, is in projection.cu.
#include "cpp/ops/sparse/lsh_buckets.h"
#include "cuda/sparse/projection.cuh"

namespace longspan::cuda {
namespace {

Status lshBuckets(const ops::LshBuckets& p, Context& context) {
  ProjectionJob job{};
  const TensorView& r = p.rotations;
  job.columns = AnyElements(r);
  job.columnHead = r.shape[0] == 1 ? 0 : r.stride[0];
  job.columnRound = r.stride[1];
  job.columnStep = r.stride[2];
  job.columnColumn = r.stride[3];
  job.rounds = static_cast<int>(p.rounds());
  job.factors = static_cast<int>(p.factors.size());
  for (int f = 0; f < job.factors; ++f) {
    job.columnsOf[f] = static_cast<int>(p.factors[static_cast<size_t>(f)] / 2);
  }
  job.hashes = true;
  job.none = static_cast<int32_t>(p.count());
  job.groups = p.buckets.data<int32_t>();
  return launchProjection(job, p.x, p.lengths, context);
}

LONGSPAN_CUDA_OPERATOR(LshBuckets, lshBuckets);

}  // namespace
}  // namespace longspan::cuda
