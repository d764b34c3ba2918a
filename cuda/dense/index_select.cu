// indexSelect, and embedding with it: slices copied, 2 s bytes per element of s bytes, 16 bytes at
// a time where slices are aligned; ids come from the cache. An id out of range gives a slice of
// NaN (see element.h).
//
// The gradient is deterministic without atomics: positions are sorted by id, stably; the block
// that finds itself at the first position of an id owns that slice of the result. Its threads lie
// `across` the groups of the slice and `down` the positions, each adds its positions in order in
// f32, and the columns of threads are added as a tree. Other slices are set to 0 beforehand. Cost:
// gradY read once, the result written once and the slices in use twice, plus a sort of 20 bytes
// per position and 8 bits of the vocabulary. An id out of range is left out.
//
// H200: indexSelect has 89 % of copy speed (bench/results/nvidia-h200.json), measured before
// elementwise.cuh fetched ahead. The gradient has two
// to four slices under way in each thread; about 60 % is predicted for a vocabulary of 50k and 16k
// positions of 768, its sort and clearing included. In this form not yet run on hardware; with one
// slice under way it was right on an H200, not timed there.
#include <bit>

#include "cpp/ops/dense/index_select.h"
#include "cuda/dense/pick.h"
#include "cuda/dense/radix_sort.cuh"
#include "cuda/dense/slices.h"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

// Axes [axis, axis + count) of a view, or the others.
TensorView axesOf(const TensorView& t, int64_t axis, int64_t count, bool others) {
  TensorView v = t;
  v.rank = 0;
  for (int i = 0; i < t.rank; ++i) {
    if ((i >= axis && i < axis + count) == others) continue;
    v.shape[v.rank] = t.shape[i];
    v.stride[v.rank++] = t.stride[i];
  }
  return v;
}

__global__ void __launch_bounds__(kThreads)
    keysKernel(const int32_t* ids, uint32_t* keys, int32_t* positions, int64_t n, int64_t length,
               int64_t skip, const __grid_constant__ Walk<1, 1> idAt) {
  for (int64_t i = gridThread(); i < n; i += gridThreads()) {
    const int64_t id = ids[idAt.place(i).at[0]];
    const bool valid = id >= 0 && id < length && id != skip;
    keys[i] = static_cast<uint32_t>(valid ? id : length);
    positions[i] = static_cast<int32_t>(i);
  }
}

// One past the last of the keys that equal keys[i], by doubling steps.
__device__ __forceinline__ int64_t endOfRun(const uint32_t* keys, int64_t i, int64_t n) {
  const uint32_t key = keys[i];
  int64_t last = i, step = 1;  // keys[last] == key
  while (last + step < n && keys[last + step] == key) {
    last += step;
    step *= 2;
  }
  for (; step > 0; step /= 2) {
    if (last + step < n && keys[last + step] == key) last += step;
  }
  return last + 1;
}

template <class T>
struct Slices {
  static constexpr int kLanes = kLanesOf<T>;
  const uint32_t* keys;
  const int32_t* positions;
  const T* gradY;
  T* gradX;
  int64_t n, length, step;  // step: between slices of gradX
  bool onto;                // the sums are added to what gradX holds
  int64_t pieces;           // blocks a slice is shared out to
  int across;               // threads beside each other, a power of two
};

template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    sumSlicesKernel(const __grid_constant__ Slices<T> s,
                    const __grid_constant__ Walk<2, Slices<T>::kLanes> slice,
                    const __grid_constant__ Walk<1, 1> gradAt) {
  constexpr int kLanes = Slices<T>::kLanes, kAtOnce = sizeof(T) == 2 ? 2 : 4;
  LONGSPAN_SHARED(shared);
  float* const sums = reinterpret_cast<float*>(shared);  // (lane, thread)
  const int x = static_cast<int>(threadIdx.x) % s.across;
  const int y = static_cast<int>(threadIdx.x) / s.across, down = kThreads / s.across;
  for (int64_t item = blockIdx.x; item < s.n * s.pieces; item += gridDim.x) {
    const int64_t i = item / s.pieces;
    const uint32_t key = s.keys[i];
    if (key == s.length || (i > 0 && s.keys[i - 1] == key)) continue;
    const int64_t end = endOfRun(s.keys, i, s.n);
    const int64_t group = item % s.pieces * s.across + x;
    const bool within = group < slice.groups;
    const auto p = slice.place(within ? group : 0);
    float sum[kLanes] = {};
    if (within) {
      // Several slices under way; those beyond the end are the last one once more, not added.
      for (int64_t k = i + y; k < end; k += kAtOnce * down) {
        Vector<T, kLanes> grad[kAtOnce];
#pragma unroll
        for (int b = 0; b < kAtOnce; ++b) {
          const int64_t from = min(k + b * down, end - 1);
          loadGroup(slice, p, 0, s.gradY + gradAt.place(s.positions[from]).at[0], grad[b]);
        }
#pragma unroll
        for (int b = 0; b < kAtOnce; ++b) {
          if (k + b * down >= end) break;
#pragma unroll
          for (int j = 0; j < kLanes; ++j) sum[j] += toFloat(grad[b].at[j]);
        }
      }
    }
    if (end - i > 1) {  // the same in all threads
#pragma unroll
      for (int j = 0; j < kLanes; ++j) sums[j * kThreads + threadIdx.x] = sum[j];
      for (int half = down / 2; half > 0; half /= 2) {
        __syncthreads();
        if (y >= half) continue;
#pragma unroll
        for (int j = 0; j < kLanes; ++j) {
          sum[j] += sums[j * kThreads + threadIdx.x + half * s.across];
          sums[j * kThreads + threadIdx.x] = sum[j];
        }
      }
      __syncthreads();
    }
    if (within && y == 0) {
      Vector<T, kLanes> out;
      if (s.onto) {
        loadGroup(slice, p, 1, s.gradX + key * s.step, out);
#pragma unroll
        for (int j = 0; j < kLanes; ++j) sum[j] += toFloat(out.at[j]);
      }
#pragma unroll
      for (int j = 0; j < kLanes; ++j) out.at[j] = fromFloat<T>(sum[j]);
      storeGroup(slice, p, 1, s.gradX + key * s.step, out);
    }
  }
}

size_t backwardWorkspace(const ops::IndexSelectBackward& p, const Gpu&) {
  return sortBytes(p.ids.numel());
}

template <class T>
Status sumSorted(const SliceSums& p, const uint32_t* keys, const int32_t* positions,
                 Context& context) {
  using S = Slices<T>;
  const TensorView from = axesOf(p.from, p.axis, p.ids.rank, true);
  const TensorView to = axesOf(p.to, p.axis, 1, true);
  const TensorView places = axesOf(p.from, p.axis, p.ids.rank, false);
  Walk<2, S::kLanes> slice({&from, &to});
  const Walk<1, 1> gradAt({&places});
  for (int i = 0; i <= gradAt.outer; ++i) {
    if (gradAt.stride[0][i] % S::kLanes != 0) slice.access[0] = Access::scattered;
  }
  S s{keys,
      positions,
      p.from.data<T>(),
      p.to.data<T>(),
      p.ids.numel(),
      p.to.shape[p.axis],
      p.to.stride[p.axis],
      p.onto,
      1,
      1};
  if (s.step % S::kLanes != 0) slice.access[1] = Access::scattered;
  while (s.across < 32 && s.across < slice.groups) s.across *= 2;
  s.pieces = (slice.groups + s.across - 1) / s.across;
  if (s.n * s.pieces == 0) return {};
  return launched(launch(sumSlicesKernel<T>, dim3(blocksFor(s.n * s.pieces, context.gpu, 1)),
                         dim3(kThreads), S::kLanes * kThreads * sizeof(float), context.stream, s,
                         slice, gradAt));
}

}  // namespace

Status sumSlices(const SliceSums& p, Context& context) {
  const int64_t n = p.ids.numel(), length = p.to.shape[p.axis];
  if (n == 0) return {};
  const SortBuffers buffers = sortBuffers(context.workspace.data, n);
  const int bits = std::bit_width(static_cast<uint64_t>(length));
  LONGSPAN_RETURN_IF_ERROR(
      launched(launch(keysKernel, dim3(blocksFor(n, context.gpu)), dim3(kThreads), 0,
                      context.stream, p.ids.data<int32_t>(), buffers.keys[0], buffers.positions[0],
                      n, length, p.skip, Walk<1, 1>({&p.ids}))));
  LONGSPAN_RETURN_IF_ERROR(sortByKey(buffers, n, bits, context));
  const int half = sortHalf(bits);
  return dispatchNarrow(p.from.dtype, [&](auto tag) {
    return sumSorted<typename decltype(tag)::type>(p, buffers.keys[half], buffers.positions[half],
                                                   context);
  });
}

Status indexSelect(const ops::IndexSelect& p, Context& context) {
  TensorView x = p.y, ids = p.y;
  ids.base = p.ids.base;
  ids.offset = p.ids.offset;
  ids.dtype = p.ids.dtype;
  x.base = p.x.base;
  x.offset = p.x.offset;
  for (int i = 0; i < p.y.rank; ++i) {
    const bool index = i >= p.axis && i < p.axis + p.ids.rank;
    const int64_t own = i < p.axis ? i : i - p.ids.rank + 1;
    x.stride[i] = index ? 0 : p.x.stride[own];
    ids.stride[i] = index ? p.ids.stride[i - p.axis] : 0;
  }
  return pick(p.x, p.axis, x, ids, p.y, context);
}

Status indexSelectBackward(const ops::IndexSelectBackward& p, Context& context) {
  if (p.gradX.numel() == 0) return {};
  LONGSPAN_RETURN_IF_ERROR(statusOf(cudaMemsetAsync(
      p.gradX.data<std::byte>(), 0, static_cast<size_t>(p.gradX.bytes()), context.stream)));
  return sumSlices({p.gradY, p.ids, p.gradX, p.axis, p.skip, false}, context);
}

LONGSPAN_CUDA_OPERATOR(IndexSelect, indexSelect);
LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(IndexSelectBackward, indexSelectBackward, backwardWorkspace);

}  // namespace longspan::cuda
