// What the backward passes need of every query before they start, and the gradient of sinks, which
// needs nothing else. Bytes: o and dO once; then 8 per query and head. Bound by memory, 90 % of
// copy speed expected; sinks take a block per head, 50 GB/s each. Right on an H200, not timed
// there.
#include "cuda/attention/backward.cuh"
#include "cuda/dispatch.cuh"

namespace longspan::cuda {
namespace {

// One warp per query.
__global__ void __launch_bounds__(128) attentionBackwardPrepare(BackwardArguments a, DType dtype) {
  const Problem& p = a.problem;
  const int lane = threadIdx.x % 32;
  const int64_t at = int64_t{blockIdx.x} * 4 + threadIdx.x / 32;
  if (at >= int64_t{p.batch} * p.queryHeads * p.queries) return;
  const int i = static_cast<int>(at % p.queries);
  const int h = static_cast<int>(at / p.queries % p.queryHeads);
  const int b = static_cast<int>(at / p.queries / p.queryHeads);
  float sum = 0;
  if (a.hasGradO) {
    dispatchNarrow(dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const Rows<T> o = rowsOf<T>(a.o, b, h, p.valueDim), g = rowsOf<T>(a.gradO, b, h, p.valueDim);
      for (int d = lane; d < p.valueDim; d += 32)
        sum = fmaf(toFloat(o.at(i, d)), toFloat(g.at(i, d)), sum);
    });
    sum = lanesSum<32>(sum);
  }
  if (lane != 0) return;
  if (!p.isQuery(b, i)) {  // padding, which may hold anything
    a.delta[at] = 0;
    a.base[at] = kNothing;
    return;
  }
  if (a.gradLse.data != nullptr) sum -= rowsOf<float>(a.gradLse, b, h, 1).at(i, 0);
  const float lse = rowsOf<float>(a.lse, b, h, 1).at(i, 0);
  a.delta[at] = sum;
  a.base[at] = lse == kNegativeInfinity ? kNothing : lse * kLog2E;
}

// Of the sink of head h, whose gradient is - sum exp(sink - lse) delta: one block per head.
__global__ void __launch_bounds__(256) attentionSinksBackward(BackwardArguments a) {
  LONGSPAN_SHARED(shared);
  float* const parts = reinterpret_cast<float*>(shared);  // [8]
  const Problem& p = a.problem;
  const int h = blockIdx.x, thread = threadIdx.x;
  const float sink = p.terms.sink(h);
  float sum = 0;
  for (int b = 0; b < p.batch; ++b) {
    const int64_t row = (int64_t{b} * p.queryHeads + h) * p.queries;
    for (int i = thread; i < p.queries; i += 256) {
      sum = fmaf(-ptx::exp2Approx(sink - a.base[row + i]), a.delta[row + i], sum);
    }
  }
  sum = lanesSum<32>(sum);
  if (thread % 32 == 0) parts[thread / 32] = sum;
  if constexpr (!kPlanted<Planted::sinksBarrier>) __syncthreads();
  if (thread != 0) return;
  float whole = 0;
  for (int w = 0; w < 8; ++w) whole += parts[w];
  a.gradSinks[h] = whole;
}

}  // namespace

Status backwardStatistics(const BackwardArguments& a, DType dtype, cudaStream_t stream) {
  const Problem& p = a.problem;
  dim3 grid;
  LONGSPAN_RETURN_IF_ERROR(gridOf((int64_t{p.batch} * p.queryHeads * p.queries + 3) / 4, &grid));
  if (grid.x > 0) {
    LONGSPAN_RETURN_IF_ERROR(
        launched(launch(attentionBackwardPrepare, grid, dim3(128), 0, stream, a, dtype)));
  }
  if (a.gradSinks == nullptr) return {};
  return launched(launch(attentionSinksBackward, dim3(static_cast<uint32_t>(p.queryHeads)),
                         dim3(256), 8 * sizeof(float), stream, a));
}

}  // namespace longspan::cuda
