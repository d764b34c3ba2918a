// Warp-wide operations, and what the emulator finds in their misuse.
#include "cuda/emulator/tests/harness.h"
#include "cuda/ptx.cuh"

namespace longspan::cuda::test {
namespace {

constexpr uint32_t kAll = 0xffffffffu;

__global__ void exchange(float* out, bool synchronise) {
  LONGSPAN_SHARED(shared);
  auto* values = reinterpret_cast<float*>(shared);
  values[threadIdx.x] = static_cast<float>(threadIdx.x);
  if (synchronise) __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 1];
}

__global__ void shuffleAgainstBarrier(float* out) {
  auto x = static_cast<float>(threadIdx.x);
  if (threadIdx.x < 16) {
    x += __shfl_xor_sync(kAll, x, 1);
  } else {
    __syncwarp();
  }
  out[threadIdx.x] = x;
}

__global__ void shuffleHalf(float* out, uint32_t mask) {
  auto x = static_cast<float>(threadIdx.x);
  if (threadIdx.x < 16) x += __shfl_xor_sync(mask, x, 1);
  out[threadIdx.x] = x;
}

__global__ void shuffleOutsideMask(float* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1.f, 20);
}

__global__ void exitsEarly(float* out) {
  if (threadIdx.x == 3) return;
  out[threadIdx.x] = __shfl_sync(kAll, 1.f, 0);
}

__global__ void allForms(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int* mine = out + lane * 12;
  mine[0] = __shfl_sync(kAll, lane, 5);
  mine[1] = __shfl_sync(kAll, lane, 3, 8);
  mine[2] = __shfl_xor_sync(kAll, lane, 6);
  mine[3] = __shfl_up_sync(kAll, lane, 2);
  mine[4] = __shfl_down_sync(kAll, lane, 4);
  mine[5] = static_cast<int>(__ballot_sync(kAll, lane % 3 == 0));
  mine[6] = __any_sync(kAll, lane == 31) + 2 * __all_sync(kAll, lane < 31);
  mine[7] = static_cast<int>(__match_any_sync(kAll, static_cast<uint32_t>(lane / 4)));
  mine[8] = static_cast<int>(__reduce_add_sync(kAll, static_cast<uint32_t>(lane)));
  mine[9] = static_cast<int>(__reduce_max_sync(kAll, static_cast<uint32_t>(lane % 7)));
  mine[10] = ptx::electOne();
  mine[11] = static_cast<int>(__shfl_down_sync(kAll, static_cast<long long>(lane) << 33, 1) >> 33);
}

LONGSPAN_CASE("warp", "values of shuffles, votes, reductions and election") {
  forSchedules([] {
    const Buffer<int> out(32 * 12);
    expectClean(launch(allForms, dim3(1), dim3(32), 0, nullptr, out.get()));
    const auto v = out.download();
    uint32_t thirds = 0;
    for (int i = 0; i < 32; i += 3) thirds |= 1u << i;
    int elected = 0;
    for (int lane = 0; lane < 32; ++lane) {
      const int* mine = &v[static_cast<size_t>(lane) * 12];
      expect(mine[0] == 5 && mine[1] == lane / 8 * 8 + 3 && mine[2] == (lane ^ 6), "shuffles");
      expect(mine[3] == (lane < 2 ? lane : lane - 2), "shuffle up");
      expect(mine[4] == (lane > 27 ? lane : lane + 4), "shuffle down");
      expect(mine[5] == static_cast<int>(thirds) && mine[6] == 1, "votes");
      expect(mine[7] == static_cast<int>(0xfu << lane / 4 * 4), "match");
      expect(mine[8] == 496 && mine[9] == 6, "reductions");
      expect(mine[11] == (lane == 31 ? 31 : lane + 1), "64-bit shuffle");
      elected += mine[10];
    }
    expect(elected == 1, "one lane is elected");
  });
}

LONGSPAN_CASE("warp", "an exchange through shared memory needs __syncwarp") {
  forSchedules([] {
    const Buffer<float> out(32);
    expectFinding(launch(exchange, dim3(1), dim3(32), 128, nullptr, out.get(), false), "RACE");
    expectClean(launch(exchange, dim3(1), dim3(32), 128, nullptr, out.get(), true));
    expect(out.download()[6] == 7.f, "neighbour's value");
  });
}

LONGSPAN_CASE("warp", "lanes of one warp in different operations") {
  forSchedules([] {
    const Buffer<float> out(32);
    expectFinding(launch(shuffleAgainstBarrier, dim3(1), dim3(32), 0, nullptr, out.get()),
                  "DIVERGENCE");
    expectFinding(launch(shuffleHalf, dim3(1), dim3(32), 0, nullptr, out.get(), kAll),
                  "DIVERGENCE");
    expectClean(launch(shuffleHalf, dim3(1), dim3(32), 0, nullptr, out.get(), 0xffffu));
  });
}

LONGSPAN_CASE("warp", "lanes that have exited, or lie outside the mask") {
  forSchedules([] {
    const Buffer<float> out(32);
    expectFinding(launch(exitsEarly, dim3(1), dim3(32), 0, nullptr, out.get()), "DIVERGENCE");
    expectFinding(launch(shuffleOutsideMask, dim3(1), dim3(32), 0, nullptr, out.get()),
                  "outside its mask");
    // A block of 20 threads has no lanes 20..31.
    expectFinding(launch(exchange, dim3(1), dim3(20), 128, nullptr, out.get(), true), "DIVERGENCE");
  });
}

}  // namespace
}  // namespace longspan::cuda::test
