// Every wrapper of cuda/ptx once, for the compiler alone: nvcc assembles what no emulator reads.
#include "cuda/ptx.cuh"

namespace longspan::cuda {

template <class T>
__global__ void instancesSm80(const T* in, T* out, float* floats, uint32_t* words) {
  LONGSPAN_SHARED(shared);
  ptx::copyAsync<16>(shared, in);
  ptx::copyAsync<8>(shared + 16, in, threadIdx.x < 3);
  ptx::copyAsync<4>(shared + 24, in, false);
  ptx::copyAsyncZeroFill<16>(shared + 32, in, 6);
  ptx::copyCommit();
  ptx::copyWait<1>();
  ptx::copyWait<0>();
  __syncthreads();
  uint32_t r1[1], r2[2], r4[4];
  ptx::loadMatrix(r1, shared);
  ptx::loadMatrix(r2, shared);
  ptx::loadMatrix(r4, shared);
  ptx::loadMatrixTransposed(r1, shared);
  ptx::loadMatrixTransposed(r2, shared);
  ptx::loadMatrixTransposed(r4, shared);
  float d[4] = {};
  ptx::mma<T>(d, r4, r2[0], r2[1]);
  const uint32_t a[4] = {ptx::toTf32(floats[0]), r1[0], r2[0], r2[1]};
  ptx::mmaTf32(d, a, r4[0], r4[1]);
  ptx::barrierSync(1, 64);
  ptx::barrierArrive(2, 64);
  ptx::waitUntilEqual(words, 1u);
  ptx::storeRelease(words + 1, ptx::loadAcquire(words));
  words[2] = ptx::addAcquireRelease(words + 3, 1u);
  floats[1] = ptx::exp2Approx(d[0]) + ptx::log2Approx(d[1]) + ptx::reciprocalApprox(d[2]) +
              ptx::tanhApprox(d[3]);
  out[0] = fromFloat<T>(toFloat(in[0]) + unpack<T>(pack<T>(1.f, 2.f)).y);
  *reinterpret_cast<Vector<T, 8>*>(out + 8) = *reinterpret_cast<const Vector<T, 8>*>(in);
  words[4] = bitCast<uint32_t>(floats[2]);
}

template <class T>
__global__ void instancesSm90(const __grid_constant__ TensorMap map, float* floats) {
#if LONGSPAN_SM90
  LONGSPAN_SHARED(shared);
  auto* barrier = reinterpret_cast<uint64_t*>(shared + 8192);
  const uint32_t r1[1] = {1}, r2[2] = {1, 2}, r4[4] = {1, 2, 3, 4};
  ptx::storeMatrix(shared, r1);
  ptx::storeMatrix(shared, r2);
  ptx::storeMatrix(shared, r4);
  ptx::storeMatrixTransposed(shared, r1);
  ptx::storeMatrixTransposed(shared, r2);
  ptx::storeMatrixTransposed(shared, r4);
  ptx::prefetchTensorMap(&map);
  if (ptx::electOne()) {
    ptx::mbarrierInit(barrier, 1);
    ptx::fenceMbarrierInit();
    ptx::mbarrierExpect(barrier, 64);
    ptx::mbarrierArriveExpect(barrier, 64);
    ptx::mbarrierArrive(barrier);
    ptx::bulkLoad(shared, &map, barrier, 0, 1);
    ptx::bulkLoad(shared, &map, barrier, 0, 1, 2);
    ptx::bulkLoad(shared, &map, barrier, 0, 1, 2, 3);
    ptx::bulkLoadRange(shared, floats, 64, barrier);
    ptx::fenceProxyAsync();
    ptx::bulkStore(&map, shared, 0, 1);
    ptx::bulkStore(&map, shared, 0, 1, 2);
    ptx::bulkStore(&map, shared, 0, 1, 2, 3);
    ptx::bulkAdd(&map, shared, 0, 1);
    ptx::bulkAdd(&map, shared, 0, 1, 2);
    ptx::bulkAdd(&map, shared, 0, 1, 2, 3);
    ptx::bulkStoreRange(floats, shared, 64);
    ptx::bulkAddRange(floats, reinterpret_cast<const float*>(shared), 64);
    ptx::bulkCommit();
    ptx::bulkWaitRead<1>();
    ptx::bulkWait<0>();
  }
  ptx::mbarrierWait(barrier, 0);
  floats[1] = ptx::mbarrierTryWait(barrier, 1);
  ptx::gridDependencyWait();
  ptx::gridDependencyLaunch();
#endif
}

template <class T, int N>
__global__ void __launch_bounds__(128) instancesWgmma(float* out) {
#if LONGSPAN_SM90A
  LONGSPAN_SHARED(shared);
  using ptx::Major;
  ptx::registersDecrease<24>();
  ptx::registersIncrease<240>();
  float d[N / 2], e[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) d[i] = e[i] = 0.f;
  const uint64_t a = ptx::matrixDescriptor(shared, 16, 1024, ptx::Swizzle::bytes128);
  const uint64_t b = ptx::matrixDescriptor(shared + 8192, 16, 1024, ptx::Swizzle::bytes128);
  const uint32_t registers[4] = {1, 2, 3, 4};
  ptx::wgmmaHold(d);
  ptx::wgmmaFence();
  ptx::wgmma<T, N, Major::k, Major::k>(d, a, b, false);
  ptx::wgmma<T, N, Major::other, Major::other>(d, a, b, true);
  ptx::wgmma<T, N, Major::k>(d, registers, b, true);
  ptx::wgmma<T, N, Major::other>(d, registers, b, true);
  ptx::wgmmaCommit();
  ptx::wgmmaWait<0>(d, e);
#pragma unroll
  for (int i = 0; i < N / 2; ++i) out[i] = d[i] + e[i];
#endif
}

#define LONGSPAN_INSTANCES(T)                                                           \
  template __global__ void instancesSm80<T>(const T*, T*, float*, uint32_t*);           \
  template __global__ void instancesSm90<T>(const __grid_constant__ TensorMap, float*); \
  template __global__ void instancesWgmma<T, 8>(float*);                                \
  template __global__ void instancesWgmma<T, 64>(float*);                               \
  template __global__ void instancesWgmma<T, 96>(float*);                               \
  template __global__ void instancesWgmma<T, 128>(float*);
LONGSPAN_INSTANCES(f16)
LONGSPAN_INSTANCES(bf16)

cudaError_t launchesCompile(float* x, cudaStream_t stream) {
  return launch(instancesWgmma<bf16, 64>, dim3(1), dim3(128), size_t{96} * 1024, stream, x);
}

}  // namespace longspan::cuda
