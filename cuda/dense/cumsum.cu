// Running sums, in f64 (i64 for integers) as on the CPU, so that each result is rounded once.
//
// Lines along the last axis are scanned tile by tile by a team; along other axes each thread walks
// down a line beside its neighbours'. A long line is cut into pieces whose sums are taken first,
// and a piece starts from the sum of those before it. Pieces depend on the shape alone. Cost: one
// read and one write, with pieces two reads. 80 to 90 % of copy speed is expected of an H200, of
// two thirds of it with pieces. Not yet run on hardware.
#include <algorithm>

#include "cpp/ops/dense/cumsum.h"
#include "cuda/context.h"
#include "cuda/rows.cuh"

namespace longspan::cuda {
namespace {

constexpr int kColumnThreads = 128;

struct Plan {
  RowSet x, y;
  bool across;
  int64_t piece, pieces;

  explicit Plan(const ops::Cumsum& p)
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

template <class T>
using Wide = std::conditional_t<std::is_integral_v<T>, long long, double>;

template <class T>
__device__ __forceinline__ T rounded(Wide<T> x) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(x);
  } else {
    return fromFloat<T>(static_cast<float>(x));
  }
}

// Element of a line at position i of the scan.
__device__ __forceinline__ int64_t elementAt(int64_t i, int64_t length, bool reverse) {
  return reverse ? length - 1 - i : i;
}

// sums: null where lines are not cut, else [lines][pieces]. onlySums: the first of two passes.
template <class T>
__global__ void __launch_bounds__(Teams::kMost)
    scanRows(const __grid_constant__ RowSet xs, const __grid_constant__ RowSet ys, Wide<T>* sums,
             int64_t piece, int64_t pieces, bool onlySums, bool reverse, int teamSize) {
  constexpr int kWide = kRun<T>;
  using A = Wide<T>;
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const int64_t item = rowOfTeam(team), line = item / pieces, number = item - line * pieces;
  const Row<T> x(xs, line), y(ys, line);
  const int64_t begin = number * piece, end = min(x.length, begin + piece);
  A carry{};
  if (sums != nullptr && !onlySums) {
    A earlier{};
    for (int64_t i = team.rank; i < number; i += team.size) earlier += sums[line * pieces + i];
    carry = team.all(earlier, Add{});
  }
  // Blocks hold several teams only where lines are short and whole: all teams take one turn.
  for (int64_t first = begin; first == begin || first < end;
       first += static_cast<int64_t>(kWide) * team.size) {
    const int64_t at = first + team.rank * kWide;
    const int64_t low = reverse ? x.length - kWide - at : at;  // of the run, in memory
    T run[kWide];
    if (xs.wide && at < end) {
      Vector<T, kWide> v;
      loadVector(x.data + low, v);
#pragma unroll
      for (int j = 0; j < kWide; ++j) run[j] = v.at[reverse ? kWide - 1 - j : j];
    } else {
#pragma unroll
      for (int j = 0; j < kWide; ++j) {
        run[j] = T{};
        if (at + j < end) run[j] = x.data[elementAt(at + j, x.length, reverse) * x.step];
      }
    }
    A upTo[kWide];
    A sum{};
#pragma unroll
    for (int j = 0; j < kWide; ++j) {
      if constexpr (std::is_integral_v<T>) {
        sum += run[j];
      } else {
        sum += toFloat(run[j]);
      }
      upTo[j] = sum;
    }
    A total;
    const A offset = carry + team.before(sum, total);
    carry += total;
    if (onlySums) continue;
    if (ys.wide && at < end) {
      Vector<T, kWide> v;
#pragma unroll
      for (int j = 0; j < kWide; ++j) {
        v.at[j] = rounded<T>(offset + upTo[reverse ? kWide - 1 - j : j]);
      }
      storeVector(y.data + low, v);
    } else {
#pragma unroll
      for (int j = 0; j < kWide; ++j) {
        if (at + j < end) {
          y.data[elementAt(at + j, y.length, reverse) * y.step] = rounded<T>(offset + upTo[j]);
        }
      }
    }
  }
  if (onlySums && team.rank == 0 && line < xs.axes.count) sums[item] = carry;
}

// grid (lines, pieces); sums: [pieces][lines].
template <class T>
__global__ void __launch_bounds__(kColumnThreads)
    scanColumns(const __grid_constant__ RowSet xs, const __grid_constant__ RowSet ys, Wide<T>* sums,
                int64_t piece, bool onlySums, bool reverse) {
  const int64_t line = static_cast<int64_t>(blockIdx.x) * kColumnThreads + threadIdx.x;
  if (line >= xs.axes.count) return;
  const Row<T> x(xs, line), y(ys, line);
  const int64_t begin = blockIdx.y * piece, end = min(x.length, begin + piece);
  Wide<T> sum{};
  if (sums != nullptr && !onlySums) {
    for (uint32_t i = 0; i < blockIdx.y; ++i) sum += sums[i * xs.axes.count + line];
  }
#pragma unroll 4
  for (int64_t i = begin; i < end; ++i) {
    const int64_t element = elementAt(i, x.length, reverse);
    const T value = x.data[element * x.step];
    if constexpr (std::is_integral_v<T>) {
      sum += value;
    } else {
      sum += toFloat(value);
    }
    if (!onlySums) y.data[element * y.step] = rounded<T>(sum);
  }
  if (onlySums) sums[blockIdx.y * xs.axes.count + line] = sum;
}

template <class T>
Status scan(const Plan& plan, Wide<T>* sums, bool onlySums, bool reverse, Context& context) {
  const int64_t lines = plan.x.axes.count;
  if (plan.across) {
    const dim3 grid(static_cast<uint32_t>((lines + kColumnThreads - 1) / kColumnThreads),
                    static_cast<uint32_t>(plan.pieces));
    return launched(launch(scanColumns<T>, grid, dim3(kColumnThreads), 0, context.stream, plan.x,
                           plan.y, sums, plan.piece, onlySums, reverse));
  }
  const Teams teams(plan.piece, kRun<T>);
  return launched(launch(scanRows<T>, teams.grid(lines * plan.pieces), teams.block(), kTeamScratch,
                         context.stream, plan.x, plan.y, sums, plan.piece, plan.pieces, onlySums,
                         reverse, teams.size));
}

Status cumsum(const ops::Cumsum& p, Context& context) {
  if (p.x.numel() == 0) return {};
  const Plan plan(p);
  const auto run = [&](auto tag) -> Status {
    using T = typename decltype(tag)::type;
    Wide<T>* sums = nullptr;
    if (plan.pieces > 1) {
      sums = reinterpret_cast<Wide<T>*>(context.workspace.data);
      LONGSPAN_RETURN_IF_ERROR(scan<T>(plan, sums, true, p.reverse, context));
    }
    return scan<T>(plan, sums, false, p.reverse, context);
  };
  if (p.x.dtype == DType::i32) return run(Tag<int32_t>{});
  return dispatchNarrow(p.x.dtype, run);
}

size_t cumsumWorkspace(const ops::Cumsum& p, const Gpu&) { return Plan(p).workspace(); }

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Cumsum, cumsum, cumsumWorkspace);

}  // namespace
}  // namespace longspan::cuda
