// cp.async, ldmatrix, stmatrix, mma.sync: values against plain loops, and their misuse.
#include "cuda/emulator/tests/harness.h"
#include "cuda/ptx.cuh"

namespace longspan::cuda::test {
namespace {

template <int Bytes>
__global__ void copiesAsync(const uint8_t* in, uint8_t* out, int n) {
  LONGSPAN_SHARED(shared);
  const int at = static_cast<int>(threadIdx.x) * Bytes;
  const int left = n - at;
  const int valid = left < 0 ? 0 : left < Bytes ? left : Bytes;
  ptx::copyAsyncZeroFill<Bytes>(shared + at, valid > 0 ? in + at : in, valid);
  ptx::copyCommit();
  ptx::copyWait<0>();
  __syncthreads();
  for (int i = 0; i < Bytes; ++i) out[at + i] = shared[at + i];
}

enum class CopyBug { none, noWait, oneGroupShort, noBarrier, misaligned, readsEarly };

__global__ void copiesInTwoGroups(const float* in, float* out, CopyBug bug) {
  LONGSPAN_SHARED(shared);
  auto* values = reinterpret_cast<float*>(shared);
  const auto i = threadIdx.x;
  ptx::copyAsync<4>(values + i, in + i);
  ptx::copyCommit();
  if (bug == CopyBug::misaligned) {
    ptx::copyAsync<8>(values + 33 + 2 * (i % 2), in + i / 2 * 2);
  } else {
    ptx::copyAsync<4>(values + 32 + i, in + 32 + i, i < 30);
  }
  ptx::copyCommit();
  if (bug == CopyBug::readsEarly) out[i] = values[32 + i];
  if (bug == CopyBug::oneGroupShort) {
    ptx::copyWait<1>();
  } else if (bug != CopyBug::noWait) {
    ptx::copyWait<0>();
  }
  if (bug != CopyBug::noBarrier) __syncthreads();
  out[i] = values[(i + 1) % 32];
  out[32 + i] = values[32 + (i + 1) % 32];
}

// Word by word: clang before 15 would call memcpy, which the emulator does not see.
__device__ __forceinline__ void storeRow(uint8_t* to, const uint4& row) {
  auto* words = reinterpret_cast<uint32_t*>(to);
  words[0] = row.x, words[1] = row.y, words[2] = row.z, words[3] = row.w;
}

// Lane l's registers of loadMatrix<N>, 16 bytes per row, rows in order.
template <int N, bool Transposed>
__global__ void loadsMatrix(const uint4* in, uint32_t* out, int shift) {
  LONGSPAN_SHARED(shared);
  const int lane = static_cast<int>(threadIdx.x);
  storeRow(shared + lane * 16, in[lane]);
  __syncwarp();
  uint32_t r[N];
  if constexpr (Transposed) {
    ptx::loadMatrixTransposed(r, shared + lane * 16 + shift);
  } else {
    ptx::loadMatrix(r, shared + lane * 16 + shift);
  }
  for (int i = 0; i < N; ++i) out[lane * N + i] = r[i];
}

// Registers of loadMatrix written back by storeMatrix.
template <int N, bool Transposed>
__global__ void roundTrip(const uint4* in, uint4* out) {
  LONGSPAN_SHARED(shared);
  const int lane = static_cast<int>(threadIdx.x);
  storeRow(shared + lane * 16, in[lane]);
  __syncwarp();
  uint32_t r[N];
  if constexpr (Transposed) {
    ptx::loadMatrixTransposed(r, shared + lane * 16);
    ptx::storeMatrixTransposed(shared + 512 + lane * 16, r);
  } else {
    ptx::loadMatrix(r, shared + lane * 16);
    ptx::storeMatrix(shared + 512 + lane * 16, r);
  }
  __syncwarp();
  if (lane < N * 8) out[lane] = reinterpret_cast<uint4*>(shared)[32 + lane];
}

template <class T>
__global__ void multiplies(const T* a, const T* b, float* c) {  // a [16, 16], b [16, 8], c [16, 8]
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  const auto pair = [](T x, T y) {
    return static_cast<uint32_t>(x.bits) | static_cast<uint32_t>(y.bits) << 16;
  };
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) {
    const T* at = a + (g + 8 * (i & 1)) * 16 + 2 * t + 8 * (i >> 1);
    fa[i] = pair(at[0], at[1]);
  }
  for (int i = 0; i < 2; ++i) {
    const T* at = b + (2 * t + 8 * i) * 8 + g;
    fb[i] = pair(at[0], at[8]);
  }
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = c[(g + 8 * (i >> 1)) * 8 + 2 * t + (i & 1)];
  ptx::mma<T>(d, fa, fb[0], fb[1]);
  for (int i = 0; i < 4; ++i) c[(g + 8 * (i >> 1)) * 8 + 2 * t + (i & 1)] = d[i];
}

__global__ void multipliesTf32(const float* a, const float* b, float* c) {  // a [16, 8], b [8, 8]
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) fa[i] = ptx::toTf32(a[(g + 8 * (i & 1)) * 8 + t + 4 * (i >> 1)]);
  for (int i = 0; i < 2; ++i) fb[i] = ptx::toTf32(b[(t + 4 * i) * 8 + g]);
  float d[4] = {};
  ptx::mmaTf32(d, fa, fb[0], fb[1]);
  for (int i = 0; i < 4; ++i) c[(g + 8 * (i >> 1)) * 8 + 2 * t + (i & 1)] = d[i];
}

__global__ void approximates(const float* x, float* y) {
  y[0] = ptx::exp2Approx(x[0]);
  y[1] = ptx::log2Approx(x[0]);
  y[2] = ptx::reciprocalApprox(x[0]);
  y[3] = ptx::tanhApprox(x[0]);
  y[4] = ptx::exp2Approx(-200.f);
  y[5] = bitCast<float>(ptx::toTf32(1.f + 0x1p-11f));
}

std::vector<uint4> rows() {
  std::vector<uint4> all(32);
  for (uint32_t i = 0; i < 32; ++i) {
    const auto word = [&](uint32_t j) { return (i * 8 + 2 * j) | (i * 8 + 2 * j + 1) << 16; };
    all[i] = make_uint4(word(0), word(1), word(2), word(3));
  }
  return all;
}

template <int N, bool Transposed>
void checkLoad() {
  const Buffer<uint4> in(rows());
  const Buffer<uint32_t> out(32 * N);
  expectClean(
      launch(loadsMatrix<N, Transposed>, dim3(1), dim3(32), 512, nullptr, in.get(), out.get(), 0));
  expect(emulator::lastLaunch().stats.ldmatrixExtraPhases == 0, "no bank conflicts");
  const auto v = out.download();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    for (uint32_t m = 0; m < N; ++m) {
      const uint32_t q = lane / 4, k = lane % 4 * 2;
      const auto element = [&](uint32_t row, uint32_t column) {
        return (m * 8 + row) * 8 + column;
      };
      const uint32_t wanted = Transposed ? element(k, q) | element(k + 1, q) << 16
                                         : element(q, k) | element(q, k + 1) << 16;
      expect(v[lane * N + m] == wanted, "register of ldmatrix");
    }
  }
  const Buffer<uint4> back(32);
  expectClean(
      launch(roundTrip<N, Transposed>, dim3(1), dim3(32), 1024, nullptr, in.get(), back.get()));
  const auto before = rows(), after = back.download();
  for (size_t i = 0; i < N * 8; ++i) {
    expect(before[i].x == after[i].x && before[i].w == after[i].w, "stmatrix undoes ldmatrix");
  }
}

template <class T>
void checkMma() {
  const auto a = wholeNumbers(256, 1), b = wholeNumbers(128, 2), c = wholeNumbers(128, 3);
  const Buffer<T> da(narrowed<T>(a)), db(narrowed<T>(b));
  const Buffer<float> dc(c);
  expectClean(launch(multiplies<T>, dim3(1), dim3(32), 0, nullptr, da.get(), db.get(), dc.get()));
  const auto d = dc.download();
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      float sum = c[i * 8 + j];
      for (size_t k = 0; k < 16; ++k) sum += a[i * 16 + k] * b[k * 8 + j];
      expect(d[i * 8 + j] == sum, "element of the product");
    }
  }
}

template <int Bytes>
void checkCopy() {
  std::vector<uint8_t> data(32 * Bytes);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<uint8_t>(i * 7 + 1);
  const Buffer<uint8_t> in(data), out(data.size());
  const int n = 29 * Bytes + 2;
  expectClean(
      launch(copiesAsync<Bytes>, dim3(1), dim3(32), 32 * Bytes, nullptr, in.get(), out.get(), n));
  const auto v = out.download();
  for (size_t i = 0; i < v.size(); ++i) {
    expect(v[i] == (i < static_cast<size_t>(n) ? data[i] : 0), "copied, then zeros");
  }
}

LONGSPAN_CASE("matrices", "cp.async of 4, 8 and 16 bytes fills the rest with zeros") {
  forSchedules([] {
    checkCopy<4>();
    checkCopy<8>();
    checkCopy<16>();
  });
}

LONGSPAN_CASE("matrices", "cp.async without its wait, its barrier, its alignment") {
  forSchedules([] {
    const Buffer<float> in(filled(64, 1.f)), out(64);
    const auto run = [&](CopyBug bug) {
      return launch(copiesInTwoGroups, dim3(1), dim3(32), 512, nullptr, in.get(), out.get(), bug);
    };
    expectClean(run(CopyBug::none));
    expect(out.download()[63] == 1.f && out.download()[62] == 0.f, "values");
    expectFinding(run(CopyBug::noWait), "in flight");
    expectFinding(run(CopyBug::oneGroupShort), "in flight");
    expectFinding(run(CopyBug::noBarrier), "RACE");
    expectFinding(run(CopyBug::misaligned), "misaligned");
    expectFinding(run(CopyBug::readsEarly), "in flight");
  });
}

LONGSPAN_CASE("matrices", "ldmatrix and stmatrix, x1, x2, x4, plain and transposed") {
  forSchedules([] {
    checkLoad<1, false>();
    checkLoad<2, false>();
    checkLoad<4, false>();
    checkLoad<1, true>();
    checkLoad<2, true>();
    checkLoad<4, true>();
  });
  const Buffer<uint4> in(rows());
  const Buffer<uint32_t> out(128);
  expectFinding(
      launch(loadsMatrix<4, false>, dim3(1), dim3(32), 512, nullptr, in.get(), out.get(), 8),
      "16-byte aligned");
}

LONGSPAN_CASE("matrices", "mma with f16, bf16 and tf32 operands") {
  forSchedules([] {
    checkMma<f16>();
    checkMma<bf16>();
  });
  const auto a = wholeNumbers(128, 4), b = wholeNumbers(64, 5);
  const Buffer<float> da(a), db(b), dc(128);
  expectClean(launch(multipliesTf32, dim3(1), dim3(32), 0, nullptr, da.get(), db.get(), dc.get()));
  const auto c = dc.download();
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 8; ++j) {
      float sum = 0.f;
      for (size_t k = 0; k < 8; ++k) sum += a[i * 8 + k] * b[k * 8 + j];
      expect(c[i * 8 + j] == sum, "element of the tf32 product");
    }
  }
}

LONGSPAN_CASE("matrices", "approximate functions, and rounding to tf32") {
  const Buffer<float> x(filled(1, 0.75f)), y(6);
  expectClean(launch(approximates, dim3(1), dim3(1), 0, nullptr, x.get(), y.get()));
  const auto v = y.download();
  expectClose(v[0], std::exp2(0.75), 1e-6, "exp2");
  expectClose(v[1], std::log2(0.75), 1e-6, "log2");
  expectClose(v[2], 1 / 0.75, 1e-6, "reciprocal");
  expectClose(v[3], std::tanh(0.75), 1e-6, "tanh");
  expect(v[4] == 0.f, "subnormal results are flushed");
  expect(v[5] == 1.f + 0x1p-10f, "ties away from zero");
}

}  // namespace
}  // namespace longspan::cuda::test
