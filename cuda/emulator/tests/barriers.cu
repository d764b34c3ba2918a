// Block and named barriers, mbarriers without copies, deadlocks.
#include "cuda/emulator/tests/harness.h"
#include "cuda/ptx.cuh"

namespace longspan::cuda::test {
namespace {

__global__ void reverse(int* out, int n) {
  LONGSPAN_SHARED(shared);
  auto* values = reinterpret_cast<int*>(shared);
  const int i = static_cast<int>(threadIdx.x);
  for (int round = 0; round < n; ++round) {
    values[i] = i + round;
    __syncthreads();
    out[i] = values[blockDim.x - 1 - threadIdx.x];
    __syncthreads();
  }
}

__global__ void reverseOnce(int* out) {
  LONGSPAN_SHARED(shared);
  auto* values = reinterpret_cast<int*>(shared);
  for (int round = 0; round < 2; ++round) {
    values[threadIdx.x] = round;
    __syncthreads();
    out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
  }
}

__global__ void reductions(int* out) {
  const int i = static_cast<int>(threadIdx.x);
  const int any = __syncthreads_or(i == 40);
  const int all = __syncthreads_and(i < 40);
  const int count = __syncthreads_count(i % 3 == 0);
  if (i == 0) {
    out[0] = any;
    out[1] = all;
    out[2] = count;
  }
}

__global__ void someExit(int* out) {
  if (threadIdx.x >= 64) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

__global__ void differentBarriers(int* out) {
  if (threadIdx.x < 32) {
    ptx::barrierSync(1, 64);
  } else {
    ptx::barrierSync(2, 64);
  }
  out[0] = 1;
}

__global__ void differentCounts() {
  if (threadIdx.x < 32) {
    ptx::barrierSync(1, 64);
  } else {
    ptx::barrierSync(1, 32);
  }
}

__global__ void halfWarps() {
  if (threadIdx.x < 16) ptx::barrierArrive(1, 32);
  if (threadIdx.x >= 32 && threadIdx.x < 48) ptx::barrierSync(1, 32);
  __syncthreads();
}

__global__ void handOver(int* out, int n) {
  LONGSPAN_SHARED(shared);
  auto* slot = reinterpret_cast<int*>(shared);
  const auto lane = threadIdx.x % 32;
  for (int i = 0; i < n; ++i) {
    if (threadIdx.x < 32) {
      if (i > 0) ptx::barrierSync(2, 64);
      slot[lane] = i;
      ptx::barrierArrive(1, 64);
    } else {
      ptx::barrierSync(1, 64);
      out[i * 32 + static_cast<int>(lane)] = slot[lane];
      if (i + 1 < n) ptx::barrierArrive(2, 64);
    }
  }
}

// Warp 0 fills, warp 1 reads; the barriers are full (0) and empty (1), one arrival per lane.
__global__ void handOverByMbarrier(int* out, int n, bool poll, bool waitForEmpty) {
  LONGSPAN_SHARED(shared);
  auto* slot = reinterpret_cast<int*>(shared);
  auto* barrier = reinterpret_cast<uint64_t*>(shared + 128);
  const auto lane = threadIdx.x % 32;
  if (threadIdx.x == 0) {
    ptx::mbarrierInit(barrier, 32);
    ptx::mbarrierInit(barrier + 1, 32);
  }
  __syncthreads();
  for (int i = 0; i < n; ++i) {
    const auto parity = static_cast<uint32_t>(i & 1);
    if (threadIdx.x < 32) {
      if (waitForEmpty) ptx::mbarrierWait(barrier + 1, parity ^ 1);
      slot[lane] = i;
      ptx::mbarrierArrive(barrier);
    } else {
      if (poll) {
        while (!ptx::mbarrierTryWait(barrier, parity)) {
        }
      } else {
        ptx::mbarrierWait(barrier, parity);
      }
      out[i * 32 + static_cast<int>(lane)] = slot[lane];
      ptx::mbarrierArrive(barrier + 1);
    }
  }
}

__global__ void mbarrierMisuse(int mode) {
  LONGSPAN_SHARED(shared);
  auto* barrier = reinterpret_cast<uint64_t*>(shared);
  if (mode == 0) ptx::mbarrierArrive(barrier);
  if (threadIdx.x == 0) ptx::mbarrierInit(barrier, 2);
  if (mode == 1 && threadIdx.x == 33) ptx::mbarrierArrive(barrier);
  __syncthreads();
  if (mode == 2) ptx::mbarrierWait(barrier, 0);
  if (mode == 3 && threadIdx.x < 3) ptx::mbarrierArriveExpect(barrier, 16);
}

__global__ void traps() { __trap(); }

LONGSPAN_CASE("barriers", "__syncthreads orders shared memory, and its reductions") {
  forSchedules([] {
    const Buffer<int> out(128);
    expectClean(launch(reverse, dim3(1), dim3(128), 512, nullptr, out.get(), 3));
    expect(out.download()[5] == 122 + 2, "reversed");
    expectFinding(launch(reverseOnce, dim3(1), dim3(128), 512, nullptr, out.get()),
                  "write after unsynchronised read");
    expectClean(launch(reductions, dim3(1), dim3(64), 0, nullptr, out.get()));
    const auto v = out.download();
    expect(v[0] == 1 && v[1] == 0 && v[2] == 22, "or, and, count");
    expectClean(launch(someExit, dim3(1), dim3(128), 0, nullptr, out.get()));
  });
}

LONGSPAN_CASE("barriers", "named barriers hand over between warps") {
  forSchedules([] {
    const Buffer<int> out(320);
    expectClean(launch(handOver, dim3(1), dim3(64), 128, nullptr, out.get(), 10));
    const auto v = out.download();
    for (int i = 0; i < 320; ++i) expect(v[static_cast<size_t>(i)] == i / 32, "handed over");
  });
}

LONGSPAN_CASE("barriers", "misuse of named barriers") {
  forSchedules([] {
    const Buffer<int> out(1);
    const cudaError_t error = launch(differentBarriers, dim3(1), dim3(64), 0, nullptr, out.get());
    expectFinding(error, "DEADLOCK");
    expectFinding(error, "32 threads");
    expectFinding(launch(differentCounts, dim3(1), dim3(64), 0, nullptr),
                  "different thread counts");
    expectFinding(launch(halfWarps, dim3(1), dim3(64), 0, nullptr), "only 16 lanes");
  });
}

LONGSPAN_CASE("barriers", "mbarriers hand over, waiting and polling") {
  for (const bool poll : {false, true}) {
    forSchedules([=] {
      const Buffer<int> out(160);
      expectClean(
          launch(handOverByMbarrier, dim3(1), dim3(64), 256, nullptr, out.get(), 5, poll, true));
      expect(out.download()[159] == 4, "handed over");
    });
  }
}

LONGSPAN_CASE("barriers", "misuse of mbarriers") {
  forSchedules([] {
    const Buffer<int> out(160);
    expectFinding(
        launch(handOverByMbarrier, dim3(1), dim3(64), 256, nullptr, out.get(), 5, false, false),
        "");
    expectFinding(launch(mbarrierMisuse, dim3(1), dim3(64), 64, nullptr, 0),
                  "before mbarrier.init");
    expectFinding(launch(mbarrierMisuse, dim3(1), dim3(64), 64, nullptr, 2), "DEADLOCK");
    expectFinding(launch(mbarrierMisuse, dim3(1), dim3(64), 64, nullptr, 3), "more arrivals");
  });
  // Without a barrier the arrival may also come before the initialisation: both are found.
  expectFinding(launch(mbarrierMisuse, dim3(1), dim3(64), 64, nullptr, 1), "mbarrier");
}

LONGSPAN_CASE("barriers", "__trap") {
  expectFinding(launch(traps, dim3(1), dim3(1), 0, nullptr), "TRAP");
}

}  // namespace
}  // namespace longspan::cuda::test
