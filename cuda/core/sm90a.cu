#include "cuda/core/sm90a.h"
#include "cuda/ptx/base.cuh"

namespace longspan::cuda {

#if defined(LONGSPAN_EMULATED)

bool runsSm90a(const Gpu& gpu) { return gpu.capability() == 90; }

#else
namespace {

// Never launched: its shared memory tells which build of the kernels the driver has loaded.
constexpr int kMark = 128;
__global__ void sm90aProbe(uint32_t* out) {
#if LONGSPAN_SM90A
  __shared__ uint32_t mark[kMark / 4];
  mark[threadIdx.x] = threadIdx.x;
  __syncthreads();
  *out = mark[threadIdx.x ^ 1];
#endif
}

bool probe(int device) {
  int before = 0;
  cudaGetDevice(&before);
  cudaSetDevice(device);
  cudaFuncAttributes attributes{};
  const cudaError_t error =
      cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(sm90aProbe));
  cudaSetDevice(before);
  if (error != cudaSuccess) (void)cudaGetLastError();  // the launch that follows reports it
  return error == cudaSuccess && attributes.sharedSizeBytes >= kMark;
}

}  // namespace

bool runsSm90a(const Gpu& gpu) {
  if (gpu.capability() != 90) return false;
  // One answer for the process: GPUs of one kind take the same code.
  static const bool loaded = probe(gpu.index);
  return loaded;
}

#endif

}  // namespace longspan::cuda
