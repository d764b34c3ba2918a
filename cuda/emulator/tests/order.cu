// Blocks that wait for each other: flags, the last block that reduces, persistent kernels.
#include "cuda/emulator/tests/harness.h"
#include "cuda/ptx.cuh"

namespace longspan::cuda::test {
namespace {

enum class Order { acquireRelease, fences, fenceMissingBefore, fenceMissingAfter };

// Every block writes a partial sum; the last one adds them up in order.
__global__ void lastBlockReduces(float* partial, uint32_t* count, float* out, Order order) {
  LONGSPAN_SHARED(shared);
  auto* last = reinterpret_cast<uint32_t*>(shared);
  partial[blockIdx.x * 32 + threadIdx.x] = static_cast<float>(blockIdx.x);
  __syncthreads();
  if (threadIdx.x == 0) {
    if (order == Order::acquireRelease) {
      *last = ptx::addAcquireRelease(count, 1);
    } else {
      if (order != Order::fenceMissingBefore) __threadfence();
      *last = atomicAdd(count, 1u);
      if (order != Order::fenceMissingAfter) __threadfence();
    }
  }
  __syncthreads();
  if (*last + 1 != gridDim.x) return;
  float sum = 0.f;
  for (uint32_t b = 0; b < gridDim.x; ++b) sum += partial[b * 32 + threadIdx.x];
  out[threadIdx.x] = sum;
}

// Block b waits for block b - 1 and adds to what it finds.
__global__ void inTurn(float* x, uint32_t* turn, bool synchronise) {
  if (synchronise) {
    if (threadIdx.x == 0) ptx::waitUntilEqual(turn, blockIdx.x);
    __syncthreads();
  }
  x[threadIdx.x] = x[threadIdx.x] * 2.f + static_cast<float>(blockIdx.x);
  __syncthreads();
  if (threadIdx.x == 0) ptx::storeRelease(turn, blockIdx.x + 1);
}

// As many blocks as multiprocessors take tiles until none is left.
__global__ void persistent(float* x, uint32_t* next, int tiles) {
  LONGSPAN_SHARED(shared);
  auto* tile = reinterpret_cast<uint32_t*>(shared);
  for (;;) {
    if (threadIdx.x == 0) *tile = atomicAdd(next, 1u);
    __syncthreads();
    const uint32_t mine = *tile;
    __syncthreads();
    if (mine >= static_cast<uint32_t>(tiles)) return;
    x[mine * blockDim.x + threadIdx.x] += 1.f;
  }
}

__global__ void waitsForNobody(uint32_t* flag) {
  if (threadIdx.x == 0) ptx::waitUntilEqual(flag, 77);
  __syncthreads();
}

LONGSPAN_CASE("order", "the last block reduces, with acquire-release or with fences") {
  forSchedules([] {
    for (const Order order : {Order::acquireRelease, Order::fences}) {
      const Buffer<float> partial(5 * 32), out(32);
      const Buffer<uint32_t> count(filled<uint32_t>(1));
      expectClean(launch(lastBlockReduces, dim3(5), dim3(32), 16, nullptr, partial.get(),
                         count.get(), out.get(), order));
      expect(out.download()[7] == 10.f, "sum");
    }
  });
}

LONGSPAN_CASE("order", "a missing fence is found") {
  forSchedules([] {
    for (const Order order : {Order::fenceMissingBefore, Order::fenceMissingAfter}) {
      const Buffer<float> partial(5 * 32), out(32);
      const Buffer<uint32_t> count(filled<uint32_t>(1));
      expectFinding(launch(lastBlockReduces, dim3(5), dim3(32), 16, nullptr, partial.get(),
                           count.get(), out.get(), order),
                    "of another block");
    }
  });
}

LONGSPAN_CASE("order", "blocks in turn, whatever the order in which they start") {
  forSchedules([] {
    const Buffer<float> x(filled(32));
    const Buffer<uint32_t> turn(filled<uint32_t>(1));
    expectClean(launch(inTurn, dim3(9), dim3(32), 0, nullptr, x.get(), turn.get(), true));
    float wanted = 0.f;
    for (int b = 0; b < 9; ++b) wanted = wanted * 2.f + static_cast<float>(b);
    expect(x.download()[0] == wanted, "in order");
    expectClean(cudaMemset(turn.get(), 0, 4));
    expectFinding(launch(inTurn, dim3(9), dim3(32), 0, nullptr, x.get(), turn.get(), false),
                  "RACE");
  });
}

LONGSPAN_CASE("order", "a persistent kernel takes tiles by an atomic counter") {
  forSchedules([] {
    const Buffer<float> x(filled(20 * 64));
    const Buffer<uint32_t> next(filled<uint32_t>(1));
    expectClean(launch(persistent, dim3(4), dim3(64), 16, nullptr, x.get(), next.get(), 20));
    for (const float value : x.download()) expect(value == 1.f, "every tile once");
  });
}

LONGSPAN_CASE("order", "waiting for a flag that nobody sets") {
  forSchedules([] {
    const Buffer<uint32_t> flag(filled<uint32_t>(1));
    const cudaError_t error = launch(waitsForNobody, dim3(3), dim3(64), 0, nullptr, flag.get());
    expectFinding(error, "DEADLOCK");
    expectFinding(error, "a loop that polls");
  });
}

}  // namespace
}  // namespace longspan::cuda::test
