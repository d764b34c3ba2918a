// gather and scatterAdd.
//
// gather reads an index and the element it names and writes it: 4 + 2 s bytes for elements of s
// bytes where the reads are of neighbours, up to 32 bytes for each of scattered ones.
//
// scatterAdd is deterministic without atomics on floats: places (element of the result, source) are
// sorted by the element, stably, and whoever meets the first of a run of equals adds the run in
// order, in f32, to what x holds there. Cost: the copy of x, a sort of 20 bytes per source and 8
// bits of the result's size, and one read of each source. A run is added by one thread: thousands
// of sources for one element take their time.
//
// An index out of range gives NaN in gather (see element.h); scatterAdd leaves its source out.
// H200: gather 80 % of copy speed on neighbours; scatterAdd 16 M sources in 1.5 ms. Right on an
// H200; times: bench/results/nvidia-h200.json.
#include <bit>

#include "cpp/ops/dense/gather.h"
#include "cuda/any_element.cuh"
#include "cuda/dense/move.cuh"
#include "cuda/dense/pick.h"
#include "cuda/dense/radix_sort.cuh"

namespace longspan::cuda {
namespace {

// The element of y each source goes to; sources without one come last.
struct Targets {
  static constexpr int kViews = 2, kLanes = 1;
  struct Loaded {
    int32_t id;
  };
  const int32_t* index;
  uint32_t* keys;
  int32_t* positions;
  int64_t length, step;
  uint32_t none;

  __device__ __forceinline__ void load(const Walk<2, 1>&, const Place<2>& p, Loaded& l) const {
    l.id = index[p.at[0]];
  }
  __device__ __forceinline__ void finish(const Walk<2, 1>&, const Place<2>& p, Loaded& l) const {
    const bool valid = l.id >= 0 && l.id < length;
    keys[p.index] = valid ? static_cast<uint32_t>(p.at[1] + l.id * step) : none;
    positions[p.index] = static_cast<int32_t>(p.index);
  }
};

// y += the sources of each run of equal keys. The type is a branch: reads are of single elements.
__global__ void __launch_bounds__(kThreads, 4)
    addRunsKernel(const uint32_t* keys, const int32_t* positions,
                  const __grid_constant__ AnyElements source, const __grid_constant__ AnyElements y,
                  int64_t n, uint32_t none, const __grid_constant__ Walk<1, 1> sourceAt) {
  for (int64_t i = gridThread(); i < n; i += gridThreads()) {
    const uint32_t key = keys[i];
    if (key == none || (i > 0 && keys[i - 1] == key)) continue;
    if (y.dtype == DType::i32) {
      auto sum = static_cast<uint32_t>(y.load<int32_t>(key));
      for (int64_t k = i; k < n && keys[k] == key; ++k) {
        sum += static_cast<uint32_t>(source.load<int32_t>(sourceAt.place(positions[k]).at[0]));
      }
      y.store(key, static_cast<int32_t>(sum));
    } else {
      float sum = y.load<float>(key);
      for (int64_t k = i; k < n && keys[k] == key; ++k) {
        sum += source.load<float>(sourceAt.place(positions[k]).at[0]);
      }
      y.store(key, sum);
    }
  }
}

size_t scatterAddWorkspace(const ops::ScatterAdd& p, const Gpu&) {
  return sortBytes(p.index.numel());
}

}  // namespace

Status gather(const ops::Gather& p, Context& context) {
  TensorView x = p.x;
  x.shape = p.index.shape;
  x.stride[p.axis] = 0;
  return pick(p.x, p.axis, x, p.index, p.y, context);
}

Status scatterAdd(const ops::ScatterAdd& p, Context& context) {
  const int64_t n = p.index.numel(), size = p.y.numel();
  if (n >= int64_t{1} << 31 || size >= int64_t{UINT32_MAX}) {
    return Status(Code::unsupported, "x", describe(p.y) + " on a GPU",
                  "Use fewer than 2^32 elements and 2^31 indices");
  }
  LONGSPAN_RETURN_IF_ERROR(moveElements(p.x, p.y, context));
  if (n == 0 || size == 0) return {};
  TensorView target = p.y;  // the element named by index 0
  target.shape = p.index.shape;
  target.stride[p.axis] = 0;
  const auto none = static_cast<uint32_t>(size);
  const int bits = std::bit_width(none);
  const SortBuffers buffers = sortBuffers(context.workspace.data, n);
  LONGSPAN_RETURN_IF_ERROR(
      elementwise<1>(Targets{p.index.data<int32_t>(), buffers.keys[0], buffers.positions[0],
                             p.y.shape[p.axis], p.y.stride[p.axis], none},
                     {&p.index, &target}, context));
  LONGSPAN_RETURN_IF_ERROR(sortByKey(buffers, n, bits, context));
  const int half = sortHalf(bits);
  return launched(launch(addRunsKernel, dim3(blocksFor(n, context.gpu)), dim3(kThreads), 0,
                         context.stream, buffers.keys[half], buffers.positions[half],
                         AnyElements(p.source), AnyElements(p.y), n, none,
                         Walk<1, 1>({&p.source})));
}

LONGSPAN_CUDA_OPERATOR(Gather, gather);
LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(ScatterAdd, scatterAdd, scatterAddWorkspace);

}  // namespace longspan::cuda
