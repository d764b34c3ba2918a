// gather and scatterAdd.
//
// gather reads an index and the element it names and writes it: 4 + 2 s bytes for elements of s
// bytes where the reads are of neighbours, up to 32 bytes for each of scattered ones.
//
// scatterAdd is deterministic without atomics on floats. Where whole slices have one index, as
// expanded ids are, the ids are sorted and slices are summed (slices.h): the copy of x, and one
// read of each source. Otherwise places (element of the result, source) are sorted by the element,
// stably; a warp takes 32 of them, sums the runs of equal elements by a scan in f32, goes on with a
// run that does not end there, and adds each to what x holds: many thousands of sources of one
// element take their time. Cost: the copy of x, a sort of 20 bytes per source and 8 bits of the
// result's size, and one read of each source, two where a run is longer than a warp.
//
// An index out of range gives NaN in gather (see element.h); scatterAdd leaves its source out.
// H200: gather 80 % of copy speed on neighbours, before elementwise.cuh fetched ahead. scatterAdd
// is not yet run on hardware in this form; predicted for 50 M sources in 1024 slices of 768: 0.15
// ms by slices, 3 ms by elements. The form before, in which one thread of 64 added 64 sources one
// after another, was right on an H200 and took 10.9 ms (bench/results/nvidia-h200.json, 28 November
// 2026).
#include <bit>

#include "cpp/ops/dense/gather.h"
#include "cuda/any_element.cuh"
#include "cuda/dense/move.cuh"
#include "cuda/dense/pick.h"
#include "cuda/dense/radix_sort.cuh"
#include "cuda/dense/slices.h"
#include "cuda/reduce.cuh"

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

// The sum of x over the lanes from this one to the last with its key; keys are in order.
template <class A>
__device__ __forceinline__ A sumOfRun(A x, uint32_t key) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const A other = __shfl_down_sync(0xffffffffu, x, distance);
    const uint32_t otherKey = __shfl_down_sync(0xffffffffu, key, distance);
    if (lane + distance < 32 && otherKey == key) x += other;
  }
  return x;
}

struct Runs {
  const uint32_t* keys;
  const int32_t* positions;
  AnyElements source, y;
  int64_t n;
  uint32_t none;
};

// y += the sources of each run of equal keys, in A. A warp takes 32 places at a time, and the rest
// of a run that begins among them.
template <class A>
__device__ __forceinline__ void addRuns(const Runs& r, const Walk<1, 1>& sourceAt) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto keyAt = [&](int64_t i) { return i < r.n ? r.keys[i] : r.none; };
  const auto sourceOf = [&](int64_t i, bool wanted) {
    return wanted ? r.source.load<A>(sourceAt.place(r.positions[i]).at[0]) : A{};
  };
  for (int64_t first = gridThread() - lane; first < r.n; first += gridThreads()) {
    const int64_t i = first + lane;
    const uint32_t key = keyAt(i);
    A sum = sumOfRun(sourceOf(i, key != r.none), key);
    const bool heads = key != r.none && (i == 0 || r.keys[i - 1] != key);
    // The last run may go on; whoever has its head adds what follows.
    const uint32_t last = __shfl_sync(0xffffffffu, key, 31);
    const uint32_t starts = __ballot_sync(0xffffffffu, heads && key == last);
    for (int64_t next = first + 32; starts != 0; next += 32) {
      const bool same = keyAt(next + lane) == last;
      if (!__any_sync(0xffffffffu, same)) break;
      const A more = mergeLanes(sourceOf(next + lane, same), 32, Add{});
      if (heads && key == last) sum += more;
    }
    if (heads) r.y.store(key, r.y.load<A>(key) + sum);
  }
}

// The type is a branch: reads are of single elements.
__global__ void __launch_bounds__(kThreads, 4)
    addRunsKernel(const __grid_constant__ Runs runs, const __grid_constant__ Walk<1, 1> sourceAt) {
  if (runs.y.dtype == DType::i32) {
    addRuns<uint32_t>(runs, sourceAt);  // overflow wraps
  } else {
    addRuns<float>(runs, sourceAt);
  }
}

// The index is the same for whole slices, of enough elements for a warp, as expanded ids are.
bool namesSlices(const ops::ScatterAdd& p) {
  if (!isFloating(p.y.dtype)) return false;
  int64_t elements = 1;
  for (int i = 0; i < p.index.rank; ++i) {
    if (i == p.axis) continue;
    if (p.index.shape[i] > 1 && p.index.stride[i] != 0) return false;
    elements *= p.index.shape[i];
  }
  return elements >= 32;
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
  if (namesSlices(p)) {
    target.shape = p.source.shape;
    target.shape[p.axis] = p.y.shape[p.axis];
    target.stride = p.y.stride;
    TensorView ids = p.index;
    ids.rank = 1;
    ids.shape[0] = p.index.shape[p.axis];
    ids.stride[0] = p.index.stride[p.axis];
    return sumSlices({p.source, ids, target, p.axis, -1, true}, context);
  }
  const auto none = static_cast<uint32_t>(size);
  const int bits = std::bit_width(none);
  const SortBuffers buffers = sortBuffers(context.workspace.data, n);
  LONGSPAN_RETURN_IF_ERROR(
      elementwise<1>(Targets{p.index.data<int32_t>(), buffers.keys[0], buffers.positions[0],
                             p.y.shape[p.axis], p.y.stride[p.axis], none},
                     {&p.index, &target}, context));
  LONGSPAN_RETURN_IF_ERROR(sortByKey(buffers, n, bits, context));
  const int half = sortHalf(bits);
  const Runs runs{buffers.keys[half],
                  buffers.positions[half],
                  AnyElements(p.source),
                  AnyElements(p.y),
                  n,
                  none};
  return launched(launch(addRunsKernel, dim3(blocksFor(n, context.gpu)), dim3(kThreads), 0,
                         context.stream, runs, Walk<1, 1>({&p.source})));
}

LONGSPAN_CUDA_OPERATOR(Gather, gather);
LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(ScatterAdd, scatterAdd, scatterAddWorkspace);

}  // namespace longspan::cuda
