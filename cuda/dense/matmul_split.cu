// The second pass of a product whose K was cut into parts: y = epilogue(sum of the parts, in
// order). Cost: 4 bytes read per element and part, y written; from L2 as a rule. Right on an H200;
// times: bench/results/nvidia-h200.json.
#include "cuda/dense/matmul_epilogue.cuh"
#include "cuda/dense/matmul_kernels.h"
#include "cuda/dispatch.cuh"

namespace longspan::cuda::matmul {
namespace {

constexpr int kThreads = 256, kRun = 8;

__global__ void __launch_bounds__(kThreads)
    splitSumKernel(const __grid_constant__ Problem p, DType type) {
  const int64_t runs = ceilDiv(p.n, kRun), rows = p.batches * p.m;
  const int64_t each = rows * p.n;
  const bool vectors = p.n % kRun == 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < rows * runs;
       i += int64_t{gridDim.x} * kThreads) {
    const int64_t row = i / runs, column = (i - row * runs) * kRun;
    float sum[kRun] = {};
    for (int split = 0; split < p.splits; ++split) {
      const float* from = p.partial + split * each + row * p.n + column;
      if (vectors) {
#pragma unroll
        for (int j = 0; j < kRun; j += 4) {
          const auto part = *reinterpret_cast<const float4*>(from + j);
          sum[j] += part.x, sum[j + 1] += part.y, sum[j + 2] += part.z, sum[j + 3] += part.w;
        }
      } else {
#pragma unroll
        for (int j = 0; j < kRun; ++j) {
          if (column + j < p.n) sum[j] += from[j];
        }
      }
    }
    dispatchNarrow(type, [&](auto tag) {
      const Epilogue<typename decltype(tag)::type, kRun> finish(p, Tile{}, column, false);
      finish(sum, row);
    });
  }
}

}  // namespace

cudaError_t launchSplitSum(const Problem& p, DType type, cudaStream_t stream) {
  const int64_t items = p.batches * p.m * ((p.n + kRun - 1) / kRun);
  const int64_t blocks = (items + kThreads - 1) / kThreads;
  constexpr int64_t kMost = 1 << 16;
  const dim3 grid(static_cast<uint32_t>(blocks < kMost ? blocks : kMost));
  return launch(splitSumKernel, grid, dim3(kThreads), 0, stream, p, type);
}

}  // namespace longspan::cuda::matmul
