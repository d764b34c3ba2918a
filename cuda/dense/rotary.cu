// Rotary position embedding (Su et al. 2021). First a table of cosines and sines, one per position
// and pair, then the rotation.
//
// A thread of the first kernel owns one frequency, whose power it takes once, and goes through
// positions. Cost: 8 bytes written per position and pair, 30 FLOPs (rotary.cuh); x is read and
// written once, 6 FLOPs per pair, the table coming from the cache where heads share it. H200: 85 %
// of copy speed. Right on an H200, not timed there.
#include "cuda/dense/rotary.cuh"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

struct Angles {
  const int32_t *positions, *offset;  // or null
  int64_t batchStep, step;
  int64_t places, length, half;  // rows of the table, positions per batch entry, pairs
  Turns turns;
  float sign;     // -1 turns back
  float2* table;  // (places, half): cosine, sine
};

__global__ void __launch_bounds__(kThreads) anglesKernel(const __grid_constant__ Angles a) {
  // Threads of a block lie beside each other along the pairs, 32 at a time.
  const int64_t pair = int64_t{blockIdx.x} * 32 + threadIdx.x % 32;
  const int64_t shift = a.offset != nullptr ? *a.offset : 0;
  if (pair >= a.half) return;
  const double turns = a.turns.ofPair(pair);
  constexpr int kRows = kThreads / 32;
  for (int64_t place = int64_t{blockIdx.y} * kRows + threadIdx.x / 32; place < a.places;
       place += int64_t{gridDim.y} * kRows) {
    int64_t position = place;
    if (a.positions != nullptr) {
      position = a.positions[place / a.length * a.batchStep + place % a.length * a.step];
    }
    a.table[place * a.half + pair] =
        cosineAndSine(static_cast<double>(position + shift) * turns, a.sign);
  }
}

constexpr int kRotaryLanes = 4;  // pairs, or channels passed on, per item

struct Rotation {
  int64_t rows, channels, half, step;  // step: between channels of x
  int64_t pairItems, restItems;        // per row
  int64_t inner, length, batch;        // rows per position, positions, rows per batch entry
  bool perBatch, interleaved;
  bool vector;  // everything is aligned to kRotaryLanes elements
};

template <class T>
__device__ __forceinline__ void turn(const Rotation& r, const T* x, T* y, const float2* angle,
                                     int64_t pair) {
  const int n = r.half - pair < kRotaryLanes ? static_cast<int>(r.half - pair) : kRotaryLanes;
  Vector<T, kRotaryLanes> a, b;
  // The two elements of a pair, a and b. Interleaved pairs are read as they lie, four elements
  // each.
  const int64_t first = r.interleaved ? 2 * pair : pair;
  const int64_t second = r.interleaved ? 2 * pair + kRotaryLanes : pair + r.half;
  if (r.interleaved && r.vector) {
    Vector<T, kRotaryLanes> low, high;
    loadVector(x + first, low);
    loadVector(x + second, high);
#pragma unroll
    for (int i = 0; i < kRotaryLanes / 2; ++i) {
      a.at[i] = low.at[2 * i];
      b.at[i] = low.at[2 * i + 1];
      a.at[kRotaryLanes / 2 + i] = high.at[2 * i];
      b.at[kRotaryLanes / 2 + i] = high.at[2 * i + 1];
    }
  } else if (r.interleaved) {
    loadLanes(x + first * r.step, 2 * r.step, n, false, a);
    loadLanes(x + (first + 1) * r.step, 2 * r.step, n, false, b);
  } else {
    loadLanes(x + first * r.step, r.step, n, r.vector, a);
    loadLanes(x + second * r.step, r.step, n, r.vector, b);
  }
#pragma unroll
  for (int i = 0; i < kRotaryLanes; ++i) {
    if (i >= n) continue;
    turnPair(angle[pair + i], a.at[i], b.at[i]);
  }
  if (r.interleaved && r.vector) {
    Vector<T, kRotaryLanes> low, high;
#pragma unroll
    for (int i = 0; i < kRotaryLanes / 2; ++i) {
      low.at[2 * i] = a.at[i];
      low.at[2 * i + 1] = b.at[i];
      high.at[2 * i] = a.at[kRotaryLanes / 2 + i];
      high.at[2 * i + 1] = b.at[kRotaryLanes / 2 + i];
    }
    storeVector(y + first, low);
    storeVector(y + second, high);
  } else if (r.interleaved) {
    storeLanes(y + first, 2, n, false, a);
    storeLanes(y + first + 1, 2, n, false, b);
  } else {
    storeLanes(y + first, 1, n, r.vector, a);
    storeLanes(y + second, 1, n, r.vector, b);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    rotateKernel(const T* x, T* y, const float2* table, const __grid_constant__ Rotation r,
                 const __grid_constant__ Walk<1, 1> rowAt) {
  const int64_t perRow = r.pairItems + r.restItems;
  for (int64_t item = gridThread(); item < r.rows * perRow; item += gridThreads()) {
    const int64_t row = item / perRow, within = item - row * perRow;
    const T* from = x + rowAt.place(row).at[0];
    T* to = y + row * r.channels;
    if (within < r.pairItems) {
      const int64_t place = row / r.inner % r.length + (r.perBatch ? row / r.batch * r.length : 0);
      turn(r, from, to, table + place * r.half, within * kRotaryLanes);
    } else {
      const int64_t channel = 2 * r.half + (within - r.pairItems) * kRotaryLanes;
      const int n = r.channels - channel < kRotaryLanes ? static_cast<int>(r.channels - channel)
                                                        : kRotaryLanes;
      Vector<T, kRotaryLanes> rest;
      loadLanes(from + channel * r.step, r.step, n, r.vector, rest);
      storeLanes(to + channel, 1, n, r.vector, rest);
    }
  }
}

int64_t placesOf(const ops::Rotary& p) {
  return p.positions.defined() ? p.positions.numel() : p.x.shape[p.axis];
}

size_t rotaryWorkspace(const ops::Rotary& p, const Gpu&) {
  return static_cast<size_t>(placesOf(p) * (p.dim / 2)) * sizeof(float2);
}

Status makeTable(const ops::Rotary& p, float2* table, Context& context) {
  Angles a{};
  const bool perBatch = p.positions.defined() && p.positions.rank == 2;
  if (p.positions.defined()) {
    a.positions = p.positions.data<int32_t>();
    a.batchStep = perBatch ? p.positions.stride[0] : 0;
    a.step = p.positions.strideOf(-1);
  }
  if (p.offset.defined()) a.offset = p.offset.data<int32_t>();
  a.length = p.x.shape[p.axis];
  a.places = perBatch ? p.positions.numel() : a.length;
  a.half = p.dim / 2;
  a.turns = Turns(p);
  a.sign = p.inverse ? -1.f : 1.f;
  a.table = table;
  const auto across = static_cast<uint32_t>((a.half + 31) / 32);
  // Each thread should see several positions, for it takes a power first.
  const int64_t down = (a.places + 63) / 64;
  const dim3 grid(across, static_cast<uint32_t>(std::min<int64_t>(down, 65535)));
  return launched(launch(anglesKernel, grid, dim3(kThreads), 0, context.stream, a));
}

template <class T>
Status rotate(const ops::Rotary& p, const float2* table, Context& context) {
  TensorView leading = p.x;
  leading.rank = static_cast<int8_t>(p.x.rank - 1);
  const Walk<1, 1> rowAt({&leading});
  Rotation r{};
  r.rows = leading.numel();
  r.channels = p.x.dim(-1);
  r.half = p.dim / 2;
  r.step = p.x.strideOf(-1);
  r.pairItems = (r.half + kRotaryLanes - 1) / kRotaryLanes;
  r.restItems = (r.channels - p.dim + kRotaryLanes - 1) / kRotaryLanes;
  r.length = p.x.shape[p.axis];
  r.inner = r.batch = 1;
  for (int i = static_cast<int>(p.axis) + 1; i < leading.rank; ++i) r.inner *= p.x.shape[i];
  for (int i = 1; i < leading.rank; ++i) r.batch *= p.x.shape[i];
  r.perBatch = p.positions.defined() && p.positions.rank == 2;
  r.interleaved = p.interleaved;
  const auto aligned = [](const void* address) {
    return reinterpret_cast<uintptr_t>(address) % (kRotaryLanes * sizeof(T)) == 0;
  };
  r.vector = r.step == 1 && r.half % kRotaryLanes == 0 && r.channels % kRotaryLanes == 0 &&
             aligned(p.x.data<T>()) && aligned(p.y.data<T>());
  for (int i = 0; i <= rowAt.outer; ++i)
    r.vector = r.vector && rowAt.stride[0][i] % kRotaryLanes == 0;
  const int64_t items = r.rows * (r.pairItems + r.restItems);
  return launched(launch(rotateKernel<T>, dim3(blocksFor(items, context.gpu)), dim3(kThreads), 0,
                         context.stream, p.x.data<T>(), p.y.data<T>(), table, r, rowAt));
}

}  // namespace

Status rotary(const ops::Rotary& p, Context& context) {
  if (p.x.numel() == 0) return {};
  auto* table = reinterpret_cast<float2*>(context.workspace.data);
  if (p.dim > 0) LONGSPAN_RETURN_IF_ERROR(makeTable(p, table, context));
  return dispatchNarrow(
      p.x.dtype, [&](auto tag) { return rotate<typename decltype(tag)::type>(p, table, context); });
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Rotary, rotary, rotaryWorkspace);

}  // namespace longspan::cuda
