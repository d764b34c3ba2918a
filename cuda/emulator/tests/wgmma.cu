// wgmma against plain loops: every swizzle, both majors, A from registers, narrow and wide; misuse.
#include "cuda/emulator/tests/harness.h"
#include "cuda/ptx.cuh"

namespace longspan::cuda::test {
namespace {

using ptx::Major;
using ptx::Swizzle;

constexpr uint32_t kDepth = 64;  // k of the tiles here: four instructions

// How an operand of `extent` rows (or columns) lies in shared memory, and its descriptor for step
// k.
template <Major M, Swizzle S>
struct Layout {
  static constexpr uint32_t kSpan = S == Swizzle::bytes128 ? 128 : S == Swizzle::bytes64 ? 64 : 32;
  static constexpr uint32_t kPanel = kSpan / 2;  // elements in a row of the atom
  // Panels of kPanel elements along the contiguous index, one after the other.
  __device__ __forceinline__ static uint32_t panelBytes(uint32_t extent) {
    return (M == Major::k ? extent : kDepth) * kSpan;
  }
  __device__ __forceinline__ static uint32_t byteOf(uint32_t base, uint32_t x, uint32_t k,
                                                    uint32_t extent) {
    const uint32_t fast = M == Major::k ? k : x, slow = M == Major::k ? x : k;
    const uint32_t linear =
        base + fast / kPanel * panelBytes(extent) + slow * kSpan + fast % kPanel * 2;
    constexpr uint32_t kMask = kSpan / 16 - 1;
    return linear ^ (linear >> 7 & kMask) << 4;
  }
  __device__ __forceinline__ static uint64_t descriptor(const uint8_t* tile, uint32_t step,
                                                        uint32_t extent) {
    if constexpr (M == Major::k) {
      const uint32_t k = step * 16;
      return ptx::matrixDescriptor(tile + k / kPanel * panelBytes(extent) + k % kPanel * 2, 16,
                                   8 * kSpan, S);
    } else {
      return ptx::matrixDescriptor(tile + step * 16 * kSpan, panelBytes(extent), 8 * kSpan, S);
    }
  }
};

enum class Bug {
  none,
  noProxyFence,
  noFence,
  noWait,
  touchesInFlight,
  overwritesOperand,
  diverges,
  wrongStride,
};

// d [64, N] = a [64, kDepth] b [kDepth, N], row-major in global memory.
template <class T, int N, Major A, Major B, Swizzle S, bool Registers>
__global__ void __launch_bounds__(128) multiplies(const T* a, const T* b, float* d, Bug bug) {
  LONGSPAN_SHARED(shared);
  using LayoutA = Layout<A, S>;
  using LayoutB = Layout<B, S>;
  constexpr uint32_t kTileA = 64 * kDepth * 2;
  uint8_t* tileB = shared + kTileA;
  for (uint32_t i = threadIdx.x; i < 64 * kDepth; i += 128) {
    *reinterpret_cast<T*>(shared + LayoutA::byteOf(0, i / kDepth, i % kDepth, 64)) = a[i];
  }
  for (uint32_t i = threadIdx.x; i < kDepth * N; i += 128) {
    *reinterpret_cast<T*>(shared + LayoutB::byteOf(kTileA, i % N, i / N, N)) = b[i];
  }
  if (bug != Bug::noProxyFence) ptx::fenceProxyAsync();
  __syncthreads();
  const uint32_t warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  float acc[N / 2];
  for (int i = 0; i < N / 2; ++i)
    acc[i] = 100.f;  // overwritten: the first step does not accumulate
  if (bug != Bug::noFence) ptx::wgmmaFence();
  for (uint32_t step = 0; step < kDepth / 16; ++step) {
    uint64_t descriptorB = LayoutB::descriptor(tileB, step, N);
    if (bug == Bug::wrongStride) descriptorB += uint64_t{32} << 32;
    if (bug == Bug::diverges && warp == 2) descriptorB += 2;
    if constexpr (Registers) {
      uint32_t fragment[4];
      for (uint32_t i = 0; i < 4; ++i) {
        const uint32_t row = warp * 16 + g + 8 * (i & 1), k = step * 16 + 2 * t + 8 * (i >> 1);
        fragment[i] = static_cast<uint32_t>(a[row * kDepth + k].bits) |
                      static_cast<uint32_t>(a[row * kDepth + k + 1].bits) << 16;
      }
      ptx::wgmma<T, N, B>(acc, fragment, descriptorB, step != 0);
    } else {
      ptx::wgmma<T, N, A, B>(acc, LayoutA::descriptor(shared, step, 64), descriptorB, step != 0);
    }
  }
  ptx::wgmmaCommit();
  if (bug == Bug::touchesInFlight) acc[1] += 1.f;
  if (bug == Bug::overwritesOperand) *reinterpret_cast<T*>(shared + kTileA) = T{};
  if (bug == Bug::noWait) {
    ptx::wgmmaWait<1>(acc);
  } else {
    ptx::wgmmaWait<0>(acc);
  }
  for (uint32_t i = 0; i < N / 2; ++i) {
    const uint32_t row = warp * 16 + g + 8 * (i >> 1 & 1), column = 8 * (i / 4) + 2 * t + (i & 1);
    d[row * N + column] = acc[i];
  }
}

template <class T, int N, Major A, Major B, Swizzle S, bool Registers>
cudaError_t run(Bug bug, bool check) {
  const auto a = wholeNumbers(64 * kDepth, 1), b = wholeNumbers(kDepth * N, 2);
  const Buffer<T> da(narrowed<T>(a)), db(narrowed<T>(b));
  const Buffer<float> dd(64 * N);
  const cudaError_t error =
      launch(multiplies<T, N, A, B, S, Registers>, dim3(1), dim3(128), 8192 + kDepth * N * 2,
             nullptr, da.get(), db.get(), dd.get(), bug);
  if (!check) return error;
  expectClean(error);
  const auto d = dd.download();
  for (size_t i = 0; i < 64; ++i) {
    for (size_t j = 0; j < N; ++j) {
      float sum = 0.f;
      for (size_t k = 0; k < kDepth; ++k) sum += a[i * kDepth + k] * b[k * N + j];
      expectClose(d[i * N + j], sum, 0, "element of the product");
    }
  }
  return error;
}

template <Swizzle S>
void checkMajors() {
  run<bf16, 64, Major::k, Major::k, S, false>(Bug::none, true);
  run<f16, 64, Major::k, Major::other, S, false>(Bug::none, true);
  run<bf16, 64, Major::other, Major::k, S, false>(Bug::none, true);
  run<bf16, 128, Major::other, Major::other, S, false>(Bug::none, true);
}

LONGSPAN_CASE("wgmma", "both majors of both operands, with every swizzle") {
  forSchedules([] {
    checkMajors<Swizzle::bytes128>();
    checkMajors<Swizzle::bytes64>();
    checkMajors<Swizzle::bytes32>();
  });
}

LONGSPAN_CASE("wgmma", "widths from 8 to 256, and A from registers") {
  constexpr Swizzle S = Swizzle::bytes128;
  run<bf16, 8, Major::k, Major::k, S, false>(Bug::none, true);
  run<f16, 24, Major::k, Major::k, S, false>(Bug::none, true);
  run<bf16, 96, Major::k, Major::k, S, false>(Bug::none, true);
  run<bf16, 256, Major::k, Major::other, S, false>(Bug::none, true);
  run<bf16, 64, Major::k, Major::k, S, true>(Bug::none, true);
  run<f16, 64, Major::k, Major::other, S, true>(Bug::none, true);
}

LONGSPAN_CASE("wgmma", "misuse") {
  forSchedules([] {
    const auto with = [](Bug bug) {
      return run<bf16, 64, Major::k, Major::k, Swizzle::bytes128, false>(bug, false);
    };
    expectFinding(with(Bug::noProxyFence), "PROXY");
    expectFinding(with(Bug::noFence), "without wgmma.fence");
    expectFinding(with(Bug::noWait), "in flight");
    expectFinding(with(Bug::touchesInFlight), "modified while in flight");
    expectFinding(with(Bug::overwritesOperand), "still reads");
    expectFinding(with(Bug::diverges), "DIVERGENCE");
  });
}

}  // namespace
}  // namespace longspan::cuda::test
