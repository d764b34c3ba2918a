// Copies of 16-bit operands that matmul's loaders cannot read in runs of 16 bytes: odd row lengths,
// odd offsets, two strides other than 1. Cost: the operand read and written once, which large
// products do not notice. Right on an H200, not timed there.
#include "cuda/dense/matmul_kernels.h"

namespace longspan::cuda::matmul {
namespace {

constexpr int kThreads = 256, kRun = 8;

// A thread writes a run of 8 elements; padding becomes zero, so that no run holds what was never
// written.
__global__ void __launch_bounds__(kThreads)
    packKernel(const __grid_constant__ Packing p, const uint16_t* from, uint16_t* to) {
  const int64_t runs = p.line / kRun, all = p.copies * p.lines * runs;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < all;
       i += int64_t{gridDim.x} * kThreads) {
    const int64_t line = i / runs, element = (i - line * runs) * kRun;
    const int64_t copy = line / p.lines;
    const uint16_t* source = from + offsetsOf(p.axes, static_cast<uint32_t>(copy)).a +
                             (line - copy * p.lines) * p.lineStep + element * p.elementStep;
    Vector<uint16_t, kRun> run;
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      run.at[j] = element + j < p.elements ? source[j * p.elementStep] : uint16_t{0};
    }
    *reinterpret_cast<Vector<uint16_t, kRun>*>(to + i * kRun) = run;
  }
}

}  // namespace

cudaError_t launchPack(const Packing& p, const void* from, void* to, cudaStream_t stream) {
  const int64_t runs = p.copies * p.lines * (p.line / kRun);
  const int64_t blocks = (runs + kThreads - 1) / kThreads;
  constexpr int64_t kMost = 1 << 16;
  return launch(packKernel, dim3(static_cast<uint32_t>(blocks < kMost ? blocks : kMost)),
                dim3(kThreads), 0, stream, p, static_cast<const uint16_t*>(from),
                static_cast<uint16_t*>(to));
}

}  // namespace longspan::cuda::matmul
