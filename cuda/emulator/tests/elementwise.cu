// The smallest example of a kernel, its launcher and its test; also the throughput measurement.
#include "cuda/emulator/tests/elementwise.h"
#include "cuda/portable.cuh"

namespace longspan::cuda {
namespace {

template <class T>
__global__ void axpyKernel(T* y, const T* x, float a, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) y[i] = fromFloat<T>(a * toFloat(x[i]) + toFloat(y[i]));
}

}  // namespace

template <class T>
cudaError_t axpy(T* y, const T* x, float a, int64_t n, cudaStream_t stream) {
  constexpr int kThreads = 256;
  const auto blocks = static_cast<uint32_t>((n + kThreads - 1) / kThreads);
  return launch(axpyKernel<T>, dim3(blocks), dim3(kThreads), 0, stream, y, x, a, n);
}

template cudaError_t axpy<float>(float*, const float*, float, int64_t, cudaStream_t);
template cudaError_t axpy<f16>(f16*, const f16*, float, int64_t, cudaStream_t);
template cudaError_t axpy<bf16>(bf16*, const bf16*, float, int64_t, cudaStream_t);

}  // namespace longspan::cuda
