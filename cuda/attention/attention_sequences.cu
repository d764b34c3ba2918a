// Boundaries of packed sequences, made safe: ascending and inside the tensors, whatever cuSeqlens
// holds (a kernel cannot refuse). A sequence before the first and one after the last own the rows
// that cuSeqlens leaves out, and see nothing: their outputs are 0.
//
// One warp for queries, one for keys; a running maximum over S + 1 numbers, 256 at a time. Cost: a
// launch and S / 256 reads of latency, about 3 us at S 1000. Right on an H200, not timed there.
#include "cuda/attention/sequences.cuh"

namespace longspan::cuda {
namespace {

struct SequenceStarts {
  const int32_t* boundaries[2];
  int64_t step[2];
  int tokens[2];
  int count;           // S + 1
  int32_t* starts[2];  // [S + 3]
};

__global__ void __launch_bounds__(32)
    attentionSequenceStarts(const __grid_constant__ SequenceStarts a) {
  constexpr int kEach = 8;
  const int side = blockIdx.x, lane = threadIdx.x, tokens = a.tokens[side];
  int32_t* const starts = a.starts[side];
  int before = 0;  // the maximum of all that went before
  for (int base = 0; base < a.count; base += 32 * kEach) {
    const int first = base + lane * kEach;
    int x[kEach];
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int i = min(first + e, a.count - 1);
      x[e] = clampTo(a.boundaries[side][i * a.step[side]], 0, tokens);
    }
#pragma unroll
    for (int e = 1; e < kEach; ++e) x[e] = max(x[e], x[e - 1]);
    int most = x[kEach - 1];
#pragma unroll
    for (int lanes = 1; lanes < 32; lanes *= 2) {
      const int other = __shfl_up_sync(0xffffffffu, most, lanes);
      if (lane >= lanes) most = max(most, other);
    }
    int lower = __shfl_up_sync(0xffffffffu, most, 1);
    lower = lane == 0 ? before : max(before, lower);
    before = max(before, __shfl_sync(0xffffffffu, most, 31));
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      if (first + e < a.count) starts[first + e + 1] = max(x[e], lower);
    }
  }
  if (lane == 0) starts[0] = 0, starts[a.count + 1] = tokens;
}

}  // namespace

Status findSequences(const ops::AttentionProblem& p, Problem& problem, void* workspace,
                     cudaStream_t stream) {
  if (!p.packed()) return {};
  SequenceStarts a{};
  a.count = static_cast<int>(p.sequences() + 1);
  const std::pair<const TensorView*, int> sides[] = {{&p.cuSeqlensQ, problem.queries},
                                                     {&p.cuSeqlensK, problem.keys}};
  for (int i = 0; i < 2; ++i) {
    const auto& [boundaries, tokens] = sides[i];
    a.boundaries[i] = boundaries->data<int32_t>();
    a.step[i] = boundaries->stride[0];
    a.tokens[i] = tokens;
    a.starts[i] = static_cast<int32_t*>(workspace) + i * sequenceStarts(p);
  }
  problem.queryStarts = a.starts[0];
  problem.keyStarts = a.starts[1];
  problem.sequences = a.count + 1;
  return launched(launch(attentionSequenceStarts, dim3(2), dim3(32), 0, stream, a));
}

}  // namespace longspan::cuda
