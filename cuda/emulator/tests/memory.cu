// Bounds, initialisation, lifetime and races of shared and global memory.
#include "cuda/emulator/tests/harness.h"
#include "cuda/ptx.cuh"

namespace longspan::cuda::test {
namespace {

__constant__ const float kTable[4] = {1.f, 2.f, 3.f, 4.f};

__global__ void writesShared(int offset) {
  LONGSPAN_SHARED(shared);
  reinterpret_cast<float*>(shared)[static_cast<int>(threadIdx.x) + offset] = 1.f;
}

__global__ void copies(const float* in, float* out, int offset) {
  out[threadIdx.x] = in[static_cast<int>(threadIdx.x) + offset];
}

__global__ void writesVector(float* out) {
  *reinterpret_cast<float4*>(out + threadIdx.x * 4) = make_float4(1.f, 2.f, 3.f, 4.f);
}

__global__ void skipsOne(float* out) {
  LONGSPAN_SHARED(shared);
  auto* values = reinterpret_cast<float*>(shared);
  if (threadIdx.x != 5) values[threadIdx.x] = 1.f;
  __syncthreads();
  out[threadIdx.x] = values[(threadIdx.x + 1) & 31];
}

// Thread i owns byte i; its neighbours share the 4-byte word.
__global__ void ownBytes(uint8_t* global, uint8_t* out, int shift) {
  LONGSPAN_SHARED(shared);
  const int i = static_cast<int>(threadIdx.x);
  shared[i] = static_cast<uint8_t>(i);
  global[i] = static_cast<uint8_t>(i);
  const int other = (i + shift) % static_cast<int>(blockDim.x);
  out[i] = static_cast<uint8_t>(shared[other] + global[other]);
}

template <class T>
__global__ void ownHalves(T* x) {
  x[threadIdx.x] = fromFloat<T>(toFloat(x[threadIdx.x]) + 1.f);
}

__global__ void sameAddress(float* out, bool atomic) {
  if (atomic) {
    atomicAdd(out + threadIdx.x, 1.f);
  } else {
    out[threadIdx.x] = 1.f;
  }
}

// In place, but each thread also reads the element of the next block.
__global__ void readsNeighbour(float* x, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const float next = x[(i + static_cast<int>(blockDim.x)) % n];
  x[i] = next + 1.f;
}

__global__ void withinBlock(float* x, bool synchronise) {
  x[threadIdx.x] = 1.f;
  if (synchronise) __syncthreads();
  x[32 + threadIdx.x] = x[(threadIdx.x + 1) % 32];
}

__global__ void atomics(uint32_t* x, float* f) {
  atomicAdd(x + 0, 1u);
  atomicMax(x + 1, threadIdx.x);
  atomicMin(x + 2, threadIdx.x);
  atomicOr(x + 3, 1u << threadIdx.x);
  atomicAnd(x + 4, ~(1u << threadIdx.x));
  atomicInc(x + 5, 9u);
  if (atomicCAS(x + 6, 0u, threadIdx.x + 1) == 0) atomicExch(x + 7, threadIdx.x + 1);
  atomicAdd(f, 0.5f);
}

__global__ void sharedAtomics(uint32_t* out, bool initialise) {
  LONGSPAN_SHARED(shared);
  auto* count = reinterpret_cast<uint32_t*>(shared);
  if (initialise && threadIdx.x == 0) *count = 0;
  __syncthreads();
  atomicAdd(count, 1u);
  __syncthreads();
  if (threadIdx.x == 0) *out = *count;
}

__global__ void readsTable(float* out) { out[threadIdx.x] = kTable[threadIdx.x % 4]; }

__global__ void storesThrough(float** pointer) { **pointer = 1.f; }

struct Strides {
  int64_t at[4];
};
__global__ void takesStruct(float* out, Strides strides, uint8_t small, double large) {
  out[threadIdx.x] = static_cast<float>(strides.at[3]) + small + static_cast<float>(large);
}

LONGSPAN_CASE("memory", "bounds to the byte") {
  const Buffer<float> in(filled(32)), out(33);
  const auto shared = [](int offset) {
    return launch(writesShared, dim3(1), dim3(32), 128, nullptr, offset);
  };
  expectClean(shared(0));
  expectFinding(shared(1), "OUT OF BOUNDS shared write of 4 bytes at shared+0x80 of 128 bytes");
  expectFinding(shared(-1), "not in the block's shared memory");
  const auto global = [&](int offset) {
    return launch(copies, dim3(1), dim3(32), 0, nullptr, in.get(), out.get(), offset);
  };
  expectClean(global(0));
  expectFinding(global(1), "OUT OF BOUNDS global read of 4 bytes at byte 128 of a buffer of 128");
  expectFinding(global(-1), "OUT OF BOUNDS");
  expectFinding(global(1 << 20), "global read");  // out of bounds, or in what another case freed
  expectFinding(launch(writesVector, dim3(1), dim3(9), 0, nullptr, out.get()),
                "OUT OF BOUNDS global write");
}

LONGSPAN_CASE("memory", "reads of what nobody wrote") {
  const Buffer<float> in(32), out(32);
  forSchedules([&] {
    expectFinding(launch(skipsOne, dim3(1), dim3(32), 128, nullptr, out.get()), "UNINITIALISED");
  });
  expectFinding(launch(copies, dim3(1), dim3(32), 0, nullptr, in.get(), out.get(), 0),
                "UNINITIALISED read of global");
  expectClean(cudaMemset(in.get(), 0, 64));
  expectFinding(launch(copies, dim3(1), dim3(32), 0, nullptr, in.get(), out.get(), 0),
                "UNINITIALISED");
  expectClean(launch(copies, dim3(1), dim3(16), 0, nullptr, in.get(), out.get(), 0));
  // A copy carries over what is initialised.
  const Buffer<float> copy(32);
  expectClean(cudaMemcpy(copy.get(), in.get(), 128, cudaMemcpyDeviceToDevice));
  expectFinding(launch(copies, dim3(1), dim3(32), 0, nullptr, copy.get(), out.get(), 0),
                "UNINITIALISED");
}

LONGSPAN_CASE("memory", "bytes of one word belong to different threads") {
  forSchedules([] {
    const Buffer<uint8_t> global(64), out(64);
    expectClean(launch(ownBytes, dim3(1), dim3(64), 64, nullptr, global.get(), out.get(), 0));
    expect(out.download()[9] == 18, "value");
    expectFinding(launch(ownBytes, dim3(1), dim3(64), 64, nullptr, global.get(), out.get(), 1), "");
    const Buffer<f16> halves(narrowed<f16>(filled(33, 1.f)));
    expectClean(launch(ownHalves<f16>, dim3(1), dim3(33), 0, nullptr, halves.get()));
    const Buffer<bf16> bhalves(narrowed<bf16>(filled(33, 1.f)));
    expectClean(launch(ownHalves<bf16>, dim3(1), dim3(33), 0, nullptr, bhalves.get()));
  });
}

LONGSPAN_CASE("memory", "races between blocks, and within one") {
  forSchedules([] {
    const Buffer<float> x(filled(64));
    expectClean(launch(sameAddress, dim3(5), dim3(32), 0, nullptr, x.get(), true));
    expect(x.download()[3] == 5.f, "sum");
    expectFinding(launch(sameAddress, dim3(5), dim3(32), 0, nullptr, x.get(), false),
                  "of another block");
    expectFinding(launch(readsNeighbour, dim3(2), dim3(32), 0, nullptr, x.get(), 64),
                  "RACE global");
    expectClean(launch(withinBlock, dim3(1), dim3(32), 0, nullptr, x.get(), true));
    expectFinding(launch(withinBlock, dim3(1), dim3(32), 0, nullptr, x.get(), false),
                  "of the same block");
  });
}

LONGSPAN_CASE("memory", "atomic operations") {
  forSchedules([] {
    const Buffer<uint32_t> x(std::vector<uint32_t>{0, 0, 99, 0, ~0u, 0, 0, 0});
    const Buffer<float> f(filled(1));
    expectClean(launch(atomics, dim3(2), dim3(32), 0, nullptr, x.get(), f.get()));
    const auto v = x.download();
    expect(v[0] == 64 && v[1] == 31 && v[2] == 0 && v[3] == ~0u && v[4] == 0, "integers");
    expect(v[5] == 64 % 10 && v[6] == v[7] && v[6] != 0, "inc, cas, exch");
    expect(f.download()[0] == 32.f, "float");
    expectClean(launch(sharedAtomics, dim3(1), dim3(64), 16, nullptr, x.get(), true));
    expect(x.download()[0] == 64, "shared");
    expectFinding(launch(sharedAtomics, dim3(1), dim3(64), 16, nullptr, x.get(), false),
                  "UNINITIALISED");
  });
}

LONGSPAN_CASE("memory", "memory that a GPU could not reach, or no longer") {
  const Buffer<float> out(32);
  float onHost = 0.f;
  std::vector<float> heap(32);
  expectClean(launch(readsTable, dim3(1), dim3(32), 0, nullptr, out.get()));
  expectFinding(launch(copies, dim3(1), dim3(32), 0, nullptr, heap.data(), out.get(), 0),
                "HOST MEMORY");
  expectFinding(launch(copies, dim3(1), dim3(1), 0, nullptr, &onHost, out.get(), 0), "HOST MEMORY");
  expectFinding(launch(copies, dim3(1), dim3(1), 0, nullptr, nullptr, out.get(), 0), "HOST MEMORY");
  float* freed = nullptr;
  expectClean(cudaMalloc(&freed, 128));
  expectClean(cudaFree(freed));
  expectFinding(launch(copies, dim3(1), dim3(32), 0, nullptr, freed, out.get(), 0),
                "USE AFTER FREE");
  const Buffer<float*> pointer(std::vector<float*>{out.get()});
  expectClean(launch(storesThrough, dim3(1), dim3(1), 0, nullptr, pointer.get()));
}

LONGSPAN_CASE("memory", "arguments of every size arrive") {
  const Buffer<float> out(32);
  expectClean(
      launch(takesStruct, dim3(1), dim3(32), 0, nullptr, out.get(), Strides{{1, 2, 3, 4}}, 7, 0.5));
  expect(out.download()[31] == 11.5f, "sum of the arguments");
}

LONGSPAN_CASE("memory", "findings name the line and come as the launch's error") {
  const Buffer<float> in(32), out(32);
  const cudaError_t error = launch(copies, dim3(1), dim3(32), 0, nullptr, in.get(), out.get(), 0);
  expect(error == cudaErrorLaunchFailure, "the launch fails");
  const std::string text = cudaGetErrorString(error);
  expect(text.find("cuda/emulator/tests/memory.cu:") != std::string::npos, text);
  expect(emulator::lastLaunch().errors.size() == 1, "one finding for 32 threads");
  expect(cudaGetLastError() == error && cudaGetLastError() == cudaSuccess, "and it is not sticky");
}

LONGSPAN_CASE("memory", "without checks only results count") {
  emulator::Settings s = emulator::settings();
  s.checks = false;
  const WithSettings with(s);
  const Buffer<float> in(filled(32)), out(32);
  expectClean(launch(skipsOne, dim3(1), dim3(32), 128, nullptr, out.get()));
  expectClean(launch(copies, dim3(1), dim3(32), 0, nullptr, in.get(), out.get(), 0));
  expectFinding(launch(copies, dim3(1), dim3(32), 0, nullptr, in.get(), out.get(), 1),
                "OUT OF BOUNDS");
}

}  // namespace
}  // namespace longspan::cuda::test
