// bucketSort: all lines at once, by radix sort (radix_sort.cuh) of (line, group), which is stable;
// then each group's begin is found by bisection among its line's sorted keys. Cost: 8 bits of lines
// x groups a pass, each about 20 bytes per element, 12 bytes more per element, and for each offset
// log2 N reads that the L2 answers. An H200 should order 2 M elements by 16 bits in 0.15 ms,
// launches included. Right on an H200; times: bench/results/nvidia-h200.json.
#include <bit>

#include "cpp/ops/sparse/bucket_sort.h"
#include "cuda/dense/radix_sort.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/rows.cuh"

namespace longspan::cuda {
namespace {

__global__ void __launch_bounds__(kThreads)
    bucketKeys(const int32_t* groups, const __grid_constant__ Axes at, uint32_t* keys,
               int32_t* positions, int64_t n, int64_t count, int64_t total) {
  for (int64_t i = gridThread(); i < total; i += gridThreads()) {
    const int32_t group = groups[at.at(i)];
    const int64_t id = group >= 0 && group < count ? group : count;
    keys[i] = static_cast<uint32_t>(i / n * (count + 1) + id);
    positions[i] = static_cast<int32_t>(i);
  }
}

// Elements first, offsets after them.
__global__ void __launch_bounds__(kThreads)
    bucketResults(const uint32_t* keys, const int32_t* positions, int32_t* order, int32_t* inverse,
                  int32_t* offsets, int64_t n, int64_t count, int64_t total, int64_t all) {
  for (int64_t i = gridThread(); i < all; i += gridThreads()) {
    if (i < total) {
      const int64_t position = positions[i], line = i / n;
      order[i] = static_cast<int32_t>(position - line * n);
      if (inverse != nullptr) inverse[position] = static_cast<int32_t>(i - line * n);
      continue;
    }
    const int64_t number = i - total, line = number / (count + 1);
    int64_t low = line * n, high = low + n;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (keys[middle] < static_cast<uint32_t>(number)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    offsets[number] = static_cast<int32_t>(low - line * n);
  }
}

Status bucketSort(const ops::BucketSort& p, Context& context) {
  const int64_t total = p.groups.numel(), n = p.length(), offsets = p.offsets.numel();
  if (total == 0) {
    if (offsets == 0) return {};
    return launched(cudaMemsetAsync(addressOf<int32_t>(p.offsets), 0,
                                    static_cast<size_t>(offsets) * sizeof(int32_t),
                                    context.stream));
  }
  const SortBuffers buffers = sortBuffers(context.workspace.data, total);
  LONGSPAN_RETURN_IF_ERROR(
      launched(launch(bucketKeys, dim3(blocksFor(total, context.gpu)), dim3(kThreads), 0,
                      context.stream, addressOf<int32_t>(p.groups), Axes::of(p.groups),
                      buffers.keys[0], buffers.positions[0], n, p.count, total)));
  const int bits = std::bit_width(static_cast<uint64_t>(offsets - 1));
  LONGSPAN_RETURN_IF_ERROR(sortByKey(buffers, total, bits, context));
  const int half = sortHalf(bits);
  return launched(launch(bucketResults, dim3(blocksFor(total + offsets, context.gpu)),
                         dim3(kThreads), 0, context.stream, buffers.keys[half],
                         buffers.positions[half], addressOf<int32_t>(p.order),
                         p.withInverse ? addressOf<int32_t>(p.inverse) : nullptr,
                         addressOf<int32_t>(p.offsets), n, p.count, total, total + offsets));
}

size_t bucketSortWorkspace(const ops::BucketSort& p, const Gpu&) {
  return sortBytes(p.groups.numel());
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(BucketSort, bucketSort, bucketSortWorkspace);

}  // namespace
}  // namespace longspan::cuda
