// Least-significant-digit radix sort, 8 bits a pass, three launches a pass (Merrill and Grimshaw
// 2010 describe the scheme): blocks own contiguous ranges and count their digits; one block turns
// the counts, digit by digit and block by block, into first places; the blocks then scatter their
// elements in order, each element's rank among equals being found by a warp's match and the counts
// of the warps before it. Atomics only count, so the order is that of the input.
//
// Per pass 12 bytes read and 8 written per element: an H200 should sort 16 M pairs by 32 bits in
// about 1 ms, half of it scattered writes. Small sorts cost their launches, 3 per 8 bits. Right on
// an H200; times: bench/results/nvidia-h200.json.
#include <algorithm>
#include <cstddef>

#include "cuda/dense/radix_sort.cuh"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

constexpr int kDigits = 256, kBits = 8;
constexpr int kWarps = kThreads / 32;
static_assert(kThreads == kDigits, "thread d looks after digit d");
constexpr int64_t kMostBlocks = 512, kLeastRange = 2048;

int64_t rangeOf(int64_t n) {
  const int64_t even = (n + kMostBlocks - 1) / kMostBlocks;
  return (std::max(even, kLeastRange) + kThreads - 1) / kThreads * kThreads;
}
int64_t blocksOf(int64_t n) { return (n + rangeOf(n) - 1) / rangeOf(n); }

// counts[digit * blocks + block]
__global__ void __launch_bounds__(kThreads)
    countKernel(const uint32_t* keys, uint32_t* counts, int64_t n, int64_t range, int shift) {
  LONGSPAN_SHARED(shared);
  uint32_t* const count = reinterpret_cast<uint32_t*>(shared);
  count[threadIdx.x] = 0;
  __syncthreads();
  const int64_t begin = blockIdx.x * range, end = begin + range < n ? begin + range : n;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    atomicAdd(&count[keys[i] >> shift & (kDigits - 1)], 1u);
  }
  __syncthreads();
  counts[threadIdx.x * int64_t{gridDim.x} + blockIdx.x] = count[threadIdx.x];
}

// Exclusive sums of the block's values, and their total in every thread.
__device__ __forceinline__ uint32_t scanBlock(uint32_t value, uint32_t* warpSums, uint32_t& total) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  uint32_t inclusive = value;
  for (int step = 1; step < 32; step *= 2) {
    const uint32_t other = __shfl_up_sync(0xffffffffu, inclusive, step);
    if (lane >= step) inclusive += other;
  }
  if (lane == 31) warpSums[warp] = inclusive;
  __syncthreads();
  uint32_t before = 0;
  total = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before += warpSums[w];
    total += warpSums[w];
  }
  __syncthreads();
  return before + inclusive - value;
}

// counts[i] becomes the sum of all before it. One block; each thread takes four neighbours a round.
__global__ void __launch_bounds__(kThreads) scanKernel(uint32_t* counts, int64_t n) {
  LONGSPAN_SHARED(shared);
  uint32_t* const warpSums = reinterpret_cast<uint32_t*>(shared);
  constexpr int kEach = 4;
  uint32_t carried = 0;
  for (int64_t first = 0; first < n; first += kThreads * kEach) {
    const int64_t at = first + static_cast<int64_t>(threadIdx.x) * kEach;
    uint32_t own[kEach], sum = 0, total;
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      own[k] = at + k < n ? counts[at + k] : 0;
      sum += own[k];
    }
    uint32_t before = carried + scanBlock(sum, warpSums, total);
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      if (at + k < n) counts[at + k] = before;
      before += own[k];
    }
    carried += total;
  }
}

__global__ void __launch_bounds__(kThreads)
    scatterKernel(const uint32_t* keys, const int32_t* positions, uint32_t* sortedKeys,
                  int32_t* sortedPositions, const uint32_t* firsts, int64_t n, int64_t range,
                  int shift) {
  LONGSPAN_SHARED(shared);
  uint32_t* const next = reinterpret_cast<uint32_t*>(shared);  // (digit): the next free place
  uint32_t* const perWarp = next + kDigits;                    // (warp, digit)
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  next[threadIdx.x] = firsts[threadIdx.x * int64_t{gridDim.x} + blockIdx.x];
  const int64_t begin = blockIdx.x * range, end = begin + range < n ? begin + range : n;
  for (int64_t first = begin; first < end; first += kThreads) {
#pragma unroll
    for (int w = 0; w < kWarps; ++w) perWarp[w * kDigits + threadIdx.x] = 0;
    __syncthreads();
    const int64_t i = first + threadIdx.x;
    const bool valid = i < end;
    const uint32_t key = valid ? keys[i] : 0;
    // A digit no element has keeps the threads beyond the end apart.
    const uint32_t digit = valid ? key >> shift & (kDigits - 1) : kDigits;
    const uint32_t equal = __match_any_sync(0xffffffffu, digit);
    const uint32_t rank = __popc(equal & ((1u << lane) - 1));
    if (valid && rank == 0) perWarp[warp * kDigits + digit] = __popc(equal);
    __syncthreads();
    // Thread d turns the warps' counts of digit d into places.
    uint32_t place = next[threadIdx.x];
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const uint32_t count = perWarp[w * kDigits + threadIdx.x];
      perWarp[w * kDigits + threadIdx.x] = place;
      place += count;
    }
    next[threadIdx.x] = place;
    __syncthreads();
    if (valid) {
      const uint32_t to = perWarp[warp * kDigits + digit] + rank;
      sortedKeys[to] = key;
      sortedPositions[to] = positions[i];
    }
    __syncthreads();
  }
}

constexpr size_t aligned(size_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

size_t sortBytes(int64_t n) {
  return 4 * aligned(static_cast<size_t>(n) * 4) +
         static_cast<size_t>(kDigits * std::max<int64_t>(blocksOf(n), 1)) * 4;
}

SortBuffers sortBuffers(std::byte* memory, int64_t n) {
  const size_t list = aligned(static_cast<size_t>(n) * 4);
  const auto at = [&](int i) { return memory + static_cast<size_t>(i) * list; };
  return {{reinterpret_cast<uint32_t*>(at(0)), reinterpret_cast<uint32_t*>(at(1))},
          {reinterpret_cast<int32_t*>(at(2)), reinterpret_cast<int32_t*>(at(3))},
          reinterpret_cast<uint32_t*>(at(4))};
}

int sortHalf(int bits) { return (bits + kBits - 1) / kBits % 2; }

Status sortByKey(const SortBuffers& b, int64_t n, int bits, Context& context) {
  if (n == 0) return {};
  const int64_t range = rangeOf(n);
  const dim3 grid(static_cast<uint32_t>(blocksOf(n))), block(kThreads);
  int from = 0;
  for (int shift = 0; shift < bits; shift += kBits, from = 1 - from) {
    LONGSPAN_RETURN_IF_ERROR(
        launched(launch(countKernel, grid, block, kDigits * sizeof(uint32_t), context.stream,
                        b.keys[from], b.counts, n, range, shift)));
    LONGSPAN_RETURN_IF_ERROR(
        launched(launch(scanKernel, dim3(1), block, kWarps * sizeof(uint32_t), context.stream,
                        b.counts, kDigits * static_cast<int64_t>(grid.x))));
    LONGSPAN_RETURN_IF_ERROR(
        launched(launch(scatterKernel, grid, block, (kDigits + kWarps * kDigits) * sizeof(uint32_t),
                        context.stream, b.keys[from], b.positions[from], b.keys[1 - from],
                        b.positions[1 - from], b.counts, n, range, shift)));
  }
  return {};
}

}  // namespace longspan::cuda
