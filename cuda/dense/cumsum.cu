// Running sums, in f64 (i64 for integers) as on the CPU, so that each result is rounded once.
//
// Lines along the last axis are scanned tile by tile by a team; along other axes each thread walks
// down a line beside its neighbours'. A long line is cut into pieces whose sums are taken first,
// and a piece starts from the sum of those before it. Pieces depend on the shape alone. Cost: one
// read and one write, with pieces two reads. 80 to 90 % of copy speed is expected of an H200, of
// two thirds of it with pieces. Right on an H200, not timed there.
#include <algorithm>

#include "cpp/ops/dense/cumsum.h"
#include "cuda/context.h"
#include "cuda/dispatch.cuh"
#include "cuda/rows.cuh"

namespace longspan::cuda {
namespace {

constexpr int kColumnThreads = 128;

struct CumsumPlan {
  RowSet x, y;
  bool across;
  int64_t piece, pieces;

  explicit CumsumPlan(const ops::Cumsum& p)
      : x(p.x, static_cast<int>(p.axis)), y(p.y, static_cast<int>(p.axis)), across(y.step != 1) {
    // What keeps a GPU busy, and the least length of a piece.
    const int64_t wanted = across ? 131072 : 1024, least = across ? 64 : 8192;
    const int64_t lines = std::max<int64_t>(x.axes.count, 1);
    pieces = std::max<int64_t>(
        1, std::min({wanted / lines, (x.length + least - 1) / least, int64_t{1024}}));
    piece = std::max<int64_t>(1, (x.length + pieces - 1) / pieces);
    piece = (piece + 15) / 16 * 16;
    pieces = std::max<int64_t>(1, (x.length + piece - 1) / piece);
  }
  size_t workspace() const {
    return pieces > 1 ? static_cast<size_t>(pieces * x.axes.count) * sizeof(double) : 0;
  }
};

// Calls f(Tag<T>{}) with the type of elements whose sums are of type A: double or long long.
template <class A, class F>
__device__ __forceinline__ void asSummed(DType dtype, F&& f) {
  if constexpr (std::is_integral_v<A>) {
    f(Tag<int32_t>{});
  } else {
    dispatchNarrow(dtype, static_cast<F&&>(f));
  }
}

template <class T, class A>
__device__ __forceinline__ T rounded(A x) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(x);
  } else {
    return fromFloat<T>(static_cast<float>(x));
  }
}

template <class A, class T>
__device__ __forceinline__ A widened(T x) {
  if constexpr (std::is_integral_v<T>) {
    return x;
  } else {
    return toFloat(x);
  }
}

// Element of a line at position i of the scan.
__device__ __forceinline__ int64_t elementAt(int64_t i, int64_t length, bool reverse) {
  return reverse ? length - 1 - i : i;
}

constexpr int kTileLanes = 4;  // elements of a thread in a tile

// sums: null where lines are not cut, else [lines][pieces]. onlySums: the first of two passes.
template <class A>
__global__ void __launch_bounds__(Teams::kMost, 1)
    scanRows(const __grid_constant__ RowSet xs, const __grid_constant__ RowSet ys, DType dtype,
             A* sums, int64_t piece, int64_t pieces, bool onlySums, bool reverse, int teamSize) {
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const int64_t item = rowOfTeam(team), line = item / pieces, number = item - line * pieces;
  const bool exists = line < xs.axes.count;
  const int64_t length = exists ? xs.length : 0;
  const int64_t startX = xs.axes.at(exists ? line : 0), startY = ys.axes.at(exists ? line : 0);
  const int64_t begin = number * piece, end = min(length, begin + piece);
  A carry{};
  if (sums != nullptr && !onlySums) {
    A earlier{};
    for (int64_t i = team.rank; i < number; i += team.size) earlier += sums[line * pieces + i];
    carry = team.all(earlier, Add{});
  }
  // Blocks hold several teams only where lines are short and whole: all teams take one turn.
  for (int64_t first = begin; first == begin || first < end;
       first += static_cast<int64_t>(kTileLanes) * team.size) {
    const int64_t at = first + team.rank * kTileLanes;
    const int64_t low = reverse ? length - kTileLanes - at : at;  // of the run, in memory
    A upTo[kTileLanes];
    asSummed<A>(dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* x = static_cast<const T*>(xs.data) + startX;
      if (xs.wide && at < end) {
        Vector<T, kTileLanes> v;
        loadVector(x + low, v);
#pragma unroll
        for (int j = 0; j < kTileLanes; ++j)
          upTo[j] = widened<A>(v.at[reverse ? kTileLanes - 1 - j : j]);
      } else {
#pragma unroll
        for (int j = 0; j < kTileLanes; ++j) {
          upTo[j] = A{};
          if (at + j < end) upTo[j] = widened<A>(x[elementAt(at + j, length, reverse) * xs.step]);
        }
      }
    });
#pragma unroll
    for (int j = 1; j < kTileLanes; ++j) upTo[j] += upTo[j - 1];
    A total;
    const A offset = carry + team.before(upTo[kTileLanes - 1], total);
    carry += total;
    if (onlySums) continue;
    asSummed<A>(dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      T* y = static_cast<T*>(ys.data) + startY;
      if (ys.wide && at < end) {
        Vector<T, kTileLanes> v;
#pragma unroll
        for (int j = 0; j < kTileLanes; ++j) {
          v.at[j] = rounded<T>(offset + upTo[reverse ? kTileLanes - 1 - j : j]);
        }
        storeVector(y + low, v);
      } else {
#pragma unroll
        for (int j = 0; j < kTileLanes; ++j) {
          const T value = rounded<T>(offset + upTo[j]);
          if (at + j < end) y[elementAt(at + j, length, reverse) * ys.step] = value;
        }
      }
    });
  }
  if (onlySums && team.rank == 0 && exists) sums[item] = carry;
}

// grid (lines, pieces); sums: [pieces][lines].
template <class A>
__global__ void __launch_bounds__(kColumnThreads, 8)
    scanColumns(const __grid_constant__ RowSet xs, const __grid_constant__ RowSet ys, DType dtype,
                A* sums, int64_t piece, bool onlySums, bool reverse) {
  const int64_t line = static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x;
  if (line >= xs.axes.count) return;
  const int64_t begin = blockIdx.y * piece, end = min(xs.length, begin + piece);
  A sum{};
  if (sums != nullptr && !onlySums) {
    for (uint32_t i = 0; i < blockIdx.y; ++i) sum += sums[i * xs.axes.count + line];
  }
  asSummed<A>(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Row<T> x(xs, line), y(ys, line);
#pragma unroll 4
    for (int64_t i = begin; i < end; ++i) {
      const int64_t element = elementAt(i, x.length, reverse);
      sum += widened<A>(x.data[element * x.step]);
      const T value = rounded<T>(sum);
      if (!onlySums) y.data[element * y.step] = value;
    }
  });
  if (onlySums) sums[blockIdx.y * xs.axes.count + line] = sum;
}

template <class A>
Status scan(const ops::Cumsum& p, const CumsumPlan& plan, A* sums, bool onlySums,
            Context& context) {
  const int64_t lines = plan.x.axes.count;
  if (plan.across) {
    const dim3 grid(static_cast<uint32_t>((lines + kColumnThreads - 1) / kColumnThreads),
                    static_cast<uint32_t>(plan.pieces));
    return launched(launch(scanColumns<A>, grid, dim3(kColumnThreads), 0, context.stream, plan.x,
                           plan.y, p.x.dtype, sums, plan.piece, onlySums, p.reverse));
  }
  const Teams teams(plan.piece, kTileLanes);
  return launched(launch(scanRows<A>, teams.grid(lines * plan.pieces), teams.block(), kTeamScratch,
                         context.stream, plan.x, plan.y, p.x.dtype, sums, plan.piece, plan.pieces,
                         onlySums, p.reverse, teams.size));
}

template <class A>
Status scanAll(const ops::Cumsum& p, Context& context) {
  const CumsumPlan plan(p);
  A* sums = nullptr;
  if (plan.pieces > 1) {
    sums = reinterpret_cast<A*>(context.workspace.data);
    LONGSPAN_RETURN_IF_ERROR(scan(p, plan, sums, true, context));
  }
  return scan(p, plan, sums, false, context);
}

Status cumsum(const ops::Cumsum& p, Context& context) {
  if (p.x.numel() == 0) return {};
  return p.x.dtype == DType::i32 ? scanAll<long long>(p, context) : scanAll<double>(p, context);
}

size_t cumsumWorkspace(const ops::Cumsum& p, const Gpu&) { return CumsumPlan(p).workspace(); }

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Cumsum, cumsum, cumsumWorkspace);

}  // namespace
}  // namespace longspan::cuda
