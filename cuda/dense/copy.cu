// copy and assign. One read and one write of every element.
//
// Where the innermost axis of the target is not that of the source, reading along one and writing
// along the other would touch a sector of 32 bytes per element: such planes go through tiles of
// 64 x 64 elements in shared memory, padded by one so that columns are free of bank conflicts.
// Between f32 and the 16-bit floats groups are converted in registers; rarer pairs, and f64, share
// one kernel.
//
// H200: 90 % of 4.3 TB/s when contiguous, 70 % through tiles. Right on an H200; times:
// bench/results/nvidia-h200.json.
#include <utility>

#include "cpp/ops/dense/copy.h"
#include "cuda/any_element.cuh"
#include "cuda/dense/move.cuh"

namespace longspan::cuda {
namespace {

template <class From, class To>
struct Convert {
  static constexpr int kViews = 2, kLanes = kLanesOf<From, To>;
  struct Loaded {
    Vector<From, kLanes> x;
  };
  const From* x;
  To* y;

  __device__ __forceinline__ void load(const Walk<2, kLanes>& walk, const Place<2>& p,
                                       Loaded& l) const {
    loadGroup(walk, p, 0, x, l.x);
  }
  __device__ __forceinline__ void finish(const Walk<2, kLanes>& walk, const Place<2>& p,
                                         Loaded& l) const {
    Vector<To, kLanes> out;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) out.at[i] = fromFloat<To>(toFloat(l.x.at[i]));
    storeGroup(walk, p, 1, y, out);
  }
};

// Any dtype to any other through f64, which holds them all, one element at a time.
struct ConvertAny {
  static constexpr int kViews = 2, kLanes = 1;
  struct Loaded {
    double x;
  };
  AnyElements x, y;

  __device__ __forceinline__ void load(const Walk<2, 1>&, const Place<2>& p, Loaded& l) const {
    l.x = x.load<double>(p.at[0]);
  }
  __device__ __forceinline__ void finish(const Walk<2, 1>&, const Place<2>& p, Loaded& l) const {
    y.store(p.at[1], l.x);
  }
};

constexpr int kTransposeTile = 64;

// A plane of `rows` x `columns`, x contiguous along rows, y along columns, repeated over the outer
// axes of `planes`.
struct Planes {
  int64_t rows, columns, tilesDown, tilesAcross, count;
  int64_t xColumn, yRow;  // steps of the axes that are not contiguous
};

template <class U>
__global__ void __launch_bounds__(kThreads)
    transposeKernel(const U* x, U* y, const Planes planes,
                    const __grid_constant__ Walk<2, 1> outer) {
  LONGSPAN_SHARED(shared);
  U* const tile = reinterpret_cast<U*>(shared);  // (columns, rows + 1)
  const int lane = static_cast<int>(threadIdx.x) % kTransposeTile;
  const int line = static_cast<int>(threadIdx.x) / kTransposeTile;
  constexpr int kLines = kThreads / kTransposeTile;
  const int64_t tiles = planes.tilesDown * planes.tilesAcross;
  for (int64_t item = blockIdx.x; item < tiles * planes.count; item += gridDim.x) {
    const auto p = outer.place(item / tiles);
    const int64_t row = item % tiles / planes.tilesAcross * kTransposeTile;
    const int64_t column = item % planes.tilesAcross * kTransposeTile;
    for (int j = line; j < kTransposeTile; j += kLines) {
      if (row + lane < planes.rows && column + j < planes.columns) {
        tile[j * (kTransposeTile + 1) + lane] =
            x[p.at[0] + row + lane + (column + j) * planes.xColumn];
      }
    }
    __syncthreads();
    for (int i = line; i < kTransposeTile; i += kLines) {
      if (row + i < planes.rows && column + lane < planes.columns) {
        y[p.at[1] + (row + i) * planes.yRow + column + lane] =
            tile[lane * (kTransposeTile + 1) + i];
      }
    }
    __syncthreads();
  }
}

// A view of the first `outer` merged axes of `walk` in one of its views, but for axis `without`.
TensorView outerAxes(const Walk<2, 1>& walk, int view, int without) {
  TensorView t;
  t.rank = 0;
  for (int i = walk.outer - 1; i >= 0; --i) {
    if (i == without) continue;
    t.shape[t.rank] = walk.shape[i];
    t.stride[t.rank++] = walk.stride[view][1 + i];
  }
  return t;
}

// Whether a tiled transposition serves, and on which outer axis x is contiguous.
int rowAxis(const Walk<2, 1>& walk) {
  constexpr int64_t kWorthwhile = 16;
  if (walk.stride[1][0] != 1 || walk.stride[0][0] == 1 || walk.inner < kWorthwhile) return -1;
  for (int i = 0; i < walk.outer; ++i) {
    if (walk.stride[0][1 + i] == 1 && walk.shape[i] >= kWorthwhile) return i;
  }
  return -1;
}

template <class U>
Status transpose(const TensorView& x, const TensorView& y, const Walk<2, 1>& walk, int axis,
                 Context& context) {
  Planes planes{};
  planes.rows = walk.shape[axis];
  planes.columns = walk.inner;
  planes.tilesDown = (planes.rows + kTransposeTile - 1) / kTransposeTile;
  planes.tilesAcross = (planes.columns + kTransposeTile - 1) / kTransposeTile;
  planes.xColumn = walk.stride[0][0];
  planes.yRow = walk.stride[1][1 + axis];
  const TensorView xs = outerAxes(walk, 0, axis), ys = outerAxes(walk, 1, axis);
  const Walk<2, 1> outer({&xs, &ys});
  planes.count = outer.groups;
  const int64_t items = planes.tilesDown * planes.tilesAcross * planes.count;
  if (items == 0) return {};
  return launched(launch(transposeKernel<U>, dim3(blocksFor(items, context.gpu, 1)), dim3(kThreads),
                         kTransposeTile * (kTransposeTile + 1) * sizeof(U), context.stream,
                         x.data<U>(), y.data<U>(), planes, outer));
}

template <class From, class To>
Status convert(const TensorView& x, const TensorView& y, Context& context) {
  return elementwise(Convert<From, To>{x.data<From>(), y.data<To>()}, {&x, &y}, context);
}

}  // namespace

Status convertElements(const TensorView& x, const TensorView& y, Context& context) {
  const auto pair = [&](DType from, DType to) { return x.dtype == from && y.dtype == to; };
  if (x.dtype == y.dtype) return moveElements(x, y, context);
  if (pair(DType::f32, DType::f16)) return convert<float, f16>(x, y, context);
  if (pair(DType::f32, DType::bf16)) return convert<float, bf16>(x, y, context);
  if (pair(DType::f16, DType::f32)) return convert<f16, float>(x, y, context);
  if (pair(DType::bf16, DType::f32)) return convert<bf16, float>(x, y, context);
  return elementwise(ConvertAny{AnyElements(x), AnyElements(y)}, {&x, &y}, context);
}

Status moveElements(const TensorView& x, const TensorView& y, Context& context) {
  if (x.dtype == DType::f64) {
    return elementwise(ConvertAny{AnyElements(x), AnyElements(y)}, {&x, &y}, context);
  }
  return dispatchBits(sizeOf(x.dtype), [&](auto tag) {
    using U = typename decltype(tag)::type;
    const Walk<2, 1> walk({&x, &y});
    if (const int axis = rowAxis(walk); axis >= 0) return transpose<U>(x, y, walk, axis, context);
    return elementwise(Move<U>{x.data<U>(), y.data<U>()}, {&x, &y}, context);
  });
}

Status copy(const ops::Copy& p, Context& context) { return convertElements(p.x, p.y, context); }

Status assign(const ops::Assign& p, Context& context) { return convertElements(p.x, p.y, context); }

LONGSPAN_CUDA_OPERATOR_F64(Copy, copy);
LONGSPAN_CUDA_OPERATOR_F64(Assign, assign);

}  // namespace longspan::cuda
