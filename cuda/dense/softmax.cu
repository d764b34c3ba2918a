// Softmax and its logarithm, forward and backward.
//
// Along the last axis a team holds its row in registers: the largest element is found first, then
// exponentials are taken once and summed. In 16 bits rows of up to 1024 elements are a warp's,
// without barriers. Rows longer than the registers of 512 threads, or than 8192 elements that are
// not aligned, are read twice, rescaled to the largest element so far (Milakov and Gimelshein
// 2018). Along other axes threads take neighbouring rows and read them twice. Cost, n elements: one
// read and one write, n exponentials; backward two reads, one write.
//
// Instructions of an element of rows of 1024 in SASS for sm_90a, counted, not timed: 18 in bf16,
// 30 in f32. An H200 issues 29 in the time of copying a bf16 element, 58 for f32. Predicted: 90 %
// of copy speed. In this form not yet run on hardware; the form before, which merged exponentials
// in every reduction, was right on an H200 and had 95 % of copy speed in f32 and 56 % in bf16
// (bench/results/nvidia-h200.json, 28 November 2026).
#include "cpp/ops/dense/softmax.h"
#include "cuda/context.h"
#include "cuda/dispatch.cuh"
#include "cuda/pointwise.cuh"
#include "cuda/rows.cuh"

namespace longspan::cuda {
namespace {

// Elements a thread holds of one row: 64 bytes, where rows are aligned, so that a warp has a row of
// 512 or 1024 elements for itself.
template <bool kAligned, class T>
constexpr int kOne = kAligned && sizeof(T) == 2 ? 32 : 16;
constexpr int kTwo = 16;  // of each of two

__device__ __forceinline__ void addTo(Exponentials& e, float x) {
  const Exponentials next{fmaxf(e.top, x), 0};
  const float shift = next.shift();
  e = {next.top, e.sum * expf(e.top - shift) + expf(x - shift)};
}

// What becomes of the element x of a row whose exponentials are known; T: what it is rounded to.
template <class T = float>
__device__ __forceinline__ float outcome(const Exponentials& e, float x, float share, float logSum,
                                         bool logarithm) {
  if (logarithm) return e.empty() ? -INFINITY : x - e.shift() - logSum;
  return e.empty() ? 0.0f : pointwise::exponential<T>(x - e.shift()) * share;
}

// A row that the team's registers hold.
template <class T, bool kAligned>
__device__ __forceinline__ void softmaxTile(const Row<T, kAligned>& x, const Row<T, kAligned>& y,
                                            Team& team, bool logarithm) {
  float at[kOne<kAligned, T>];
  loadTile(x, 0, team, at, -INFINITY);
  Exponentials e = Exponentials::none();
#pragma unroll
  for (const float v : at) e.top = fmaxf(e.top, v);
  e.top = team.all(e.top, Larger{});
  const float shift = e.shift();
#pragma unroll
  for (float& v : at) {
    v -= shift;
    const float w = pointwise::exponential<T>(v);
    e.sum += w;
    if (!logarithm) v = w;
  }
  e.sum = team.sum(e.sum);
  if (logarithm) {
    const float logSum = e.empty() ? INFINITY : logf(e.sum);
#pragma unroll
    for (float& v : at) v -= logSum;
  } else {
    const float share = e.empty() ? 0.0f : 1 / e.sum;
#pragma unroll
    for (float& v : at) v *= share;
  }
  storeTile(y, 0, team, at);
}

template <class T>
__global__ void __launch_bounds__(Teams::kMost, 2)
    softmaxRows(const __grid_constant__ RowSet xs, const __grid_constant__ RowSet ys, int teamSize,
                bool logarithm) {
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const int64_t index = rowOfTeam(team);
  softmaxTile(Row<T, true>(xs, index), Row<T, true>(ys, index), team, logarithm);
}

template <class T>
__device__ __forceinline__ void softmaxAnyRow(const RowSet& xs, const RowSet& ys, int teamSize,
                                              bool logarithm) {
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const int64_t index = rowOfTeam(team), tile = static_cast<int64_t>(kOne<false, T>) * team.size;
  const Row<T> x(xs, index), y(ys, index);
  if (xs.length <= tile) return softmaxTile(x, y, team, logarithm);
  float at[kOne<false, T>];
  Exponentials e = Exponentials::none();
  for (int64_t first = 0; first < x.length; first += tile) {
    loadTile(x, first, team, at, -INFINITY);
    Exponentials next{e.top, 0};
#pragma unroll
    for (float v : at) next.top = fmaxf(next.top, v);
    const float shift = next.shift();
    next.sum = e.sum * expf(e.top - shift);
#pragma unroll
    for (const float v : at) next.sum += pointwise::exponential<T>(v - shift);
    e = next;
  }
  e = team.all(e, MergeExponentials{});
  const float share = 1 / e.sum, logSum = logf(e.sum);
  for (int64_t first = 0; first < x.length; first += tile) {
    loadTile(x, first, team, at);
#pragma unroll
    for (float& v : at) v = outcome<T>(e, v, share, logSum, logarithm);
    storeTile(y, first, team, at);
  }
}

__global__ void __launch_bounds__(Teams::kMost, 1)
    softmaxAnyRows(const __grid_constant__ RowSet xs, const __grid_constant__ RowSet ys,
                   DType dtype, int teamSize, bool logarithm) {
  dispatchNarrow(dtype, [&](auto tag) {
    softmaxAnyRow<typename decltype(tag)::type>(xs, ys, teamSize, logarithm);
  });
}

__global__ void __launch_bounds__(ColumnTeam::kThreads, 2)
    softmaxColumns(const __grid_constant__ RowSet xs, const __grid_constant__ RowSet ys,
                   DType dtype, bool logarithm) {
  LONGSPAN_SHARED(shared);
  ColumnTeam team(shared);
  const int64_t index = static_cast<int64_t>(blockIdx.x) * ColumnTeam::kColumns + team.column;
  Exponentials e = Exponentials::none();
  dispatchNarrow(dtype, [&](auto tag) {
    const Row<typename decltype(tag)::type> x(xs, index);
#pragma unroll 4
    for (int64_t i = team.slice; i < x.length; i += ColumnTeam::kSlices) {
      addTo(e, toFloat(x.data[i * x.step]));
    }
  });
  e = team.all(e, MergeExponentials{});
  const float share = 1 / e.sum, logSum = logf(e.sum);
  dispatchNarrow(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Row<T> x(xs, index), y(ys, index);
#pragma unroll 4
    for (int64_t i = team.slice; i < x.length; i += ColumnTeam::kSlices) {
      const T value =
          fromFloat<T>(outcome(e, toFloat(x.data[i * x.step]), share, logSum, logarithm));
      y.data[i * y.step] = value;
    }
  });
}

// The sum that a row's gradients share, and its largest output: -inf alone has no gradient.
struct Level {
  float sum, top;
};
struct MergeLevels {
  __device__ __forceinline__ Level operator()(Level a, Level b) const {
    return {a.sum + b.sum, fmaxf(a.top, b.top)};
  }
};

__device__ __forceinline__ void addTo(Level& level, float grad, float y, bool logarithm) {
  level.sum += logarithm ? grad : grad * y;
  level.top = fmaxf(level.top, y);
}

__device__ __forceinline__ float gradient(const Level& level, float grad, float y, bool logarithm) {
  if (!logarithm) return y * (grad - level.sum);
  return level.top == -INFINITY ? 0.0f : grad - expf(y) * level.sum;
}

template <class T, bool kAligned>
__device__ __forceinline__ void softmaxBackwardRow(const RowSet& grads, const RowSet& ys,
                                                   const RowSet& targets, int teamSize,
                                                   bool logarithm) {
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const int64_t index = rowOfTeam(team), tile = static_cast<int64_t>(kTwo) * team.size;
  const Row<T, kAligned> grad(grads, index), y(ys, index), target(targets, index);
  float g[kTwo], out[kTwo];
  Level level{0, -INFINITY};
  for (int64_t first = 0; first == 0 || first < y.length; first += tile) {
    loadTile(grad, first, team, g);
    loadTile(y, first, team, out, logarithm ? -INFINITY : 0.0f);
#pragma unroll
    for (int k = 0; k < kTwo; ++k) addTo(level, g[k], out[k], logarithm);
  }
  level = team.all(level, MergeLevels{});
  for (int64_t first = 0; first < y.length; first += tile) {
    if (ys.length > tile) {
      loadTile(grad, first, team, g);
      loadTile(y, first, team, out);
    }
#pragma unroll
    for (int k = 0; k < kTwo; ++k) g[k] = gradient(level, g[k], out[k], logarithm);
    storeTile(target, first, team, g);
  }
}

template <bool kAligned>
__global__ void __launch_bounds__(Teams::kMost, 1)
    softmaxBackwardRows(const __grid_constant__ RowSet grads, const __grid_constant__ RowSet ys,
                        const __grid_constant__ RowSet targets, DType dtype, int teamSize,
                        bool logarithm) {
  dispatchNarrow(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    softmaxBackwardRow<T, kAligned>(grads, ys, targets, teamSize, logarithm);
  });
}

__global__ void __launch_bounds__(ColumnTeam::kThreads, 2)
    softmaxBackwardColumns(const __grid_constant__ RowSet grads, const __grid_constant__ RowSet ys,
                           const __grid_constant__ RowSet targets, DType dtype, bool logarithm) {
  LONGSPAN_SHARED(shared);
  ColumnTeam team(shared);
  const int64_t index = static_cast<int64_t>(blockIdx.x) * ColumnTeam::kColumns + team.column;
  Level level{0, -INFINITY};
  dispatchNarrow(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Row<T> grad(grads, index), y(ys, index);
#pragma unroll 4
    for (int64_t i = team.slice; i < y.length; i += ColumnTeam::kSlices) {
      addTo(level, toFloat(grad.data[i * grad.step]), toFloat(y.data[i * y.step]), logarithm);
    }
  });
  level = team.all(level, MergeLevels{});
  dispatchNarrow(dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Row<T> grad(grads, index), y(ys, index), target(targets, index);
#pragma unroll 4
    for (int64_t i = team.slice; i < y.length; i += ColumnTeam::kSlices) {
      const float g = toFloat(grad.data[i * grad.step]), out = toFloat(y.data[i * y.step]);
      const T value = fromFloat<T>(gradient(level, g, out, logarithm));
      target.data[i * target.step] = value;
    }
  });
}

dim3 columnGrid(int64_t rows) {
  return dim3(static_cast<uint32_t>((rows + ColumnTeam::kColumns - 1) / ColumnTeam::kColumns));
}

Status forward(const ops::SoftmaxFields& p, bool logarithm, Context& context) {
  if (p.x.numel() == 0) return {};
  const RowSet x(p.x, static_cast<int>(p.axis)), y(p.y, static_cast<int>(p.axis));
  if (x.across()) {
    return launched(launch(softmaxColumns, columnGrid(x.axes.count), ColumnTeam::kThreads,
                           ColumnTeam::kThreads * sizeof(Exponentials), context.stream, x, y,
                           p.x.dtype, logarithm));
  }
  return dispatchNarrow(p.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    constexpr int64_t kMost = int64_t{kOne<true, T>} * Teams::kMost;
    const bool held = x.wide && y.wide && x.length <= kMost;
    const Teams teams(x.length, held ? kOne<true, T> : kOne<false, T>);
    const dim3 grid = teams.grid(x.axes.count);
    if (!held) {
      return launched(launch(softmaxAnyRows, grid, teams.block(), kTeamScratch, context.stream, x,
                             y, p.x.dtype, teams.size, logarithm));
    }
    return launched(launch(softmaxRows<T>, grid, teams.block(), kTeamScratch, context.stream, x, y,
                           teams.size, logarithm));
  });
}

Status backward(const ops::SoftmaxBackwardFields& p, bool logarithm, Context& context) {
  if (p.y.numel() == 0) return {};
  const int axis = static_cast<int>(p.axis);
  const RowSet grad(p.gradY, axis), y(p.y, axis), target(p.gradX, axis);
  if (y.across()) {
    return launched(launch(softmaxBackwardColumns, columnGrid(y.axes.count), ColumnTeam::kThreads,
                           ColumnTeam::kThreads * sizeof(Level), context.stream, grad, y, target,
                           p.y.dtype, logarithm));
  }
  const Teams teams(y.length, kTwo);
  const dim3 grid = teams.grid(y.axes.count);
  return withAlignment(grad.wide && y.wide && target.wide, [&](auto aligned) {
    return launched(launch(softmaxBackwardRows<aligned.value>, grid, teams.block(), kTeamScratch,
                           context.stream, grad, y, target, p.y.dtype, teams.size, logarithm));
  });
}

Status softmax(const ops::Softmax& p, Context& context) { return forward(p, false, context); }
Status logSoftmax(const ops::LogSoftmax& p, Context& context) { return forward(p, true, context); }
Status softmaxBackward(const ops::SoftmaxBackward& p, Context& context) {
  return backward(p, false, context);
}
Status logSoftmaxBackward(const ops::LogSoftmaxBackward& p, Context& context) {
  return backward(p, true, context);
}

LONGSPAN_CUDA_OPERATOR(Softmax, softmax);
LONGSPAN_CUDA_OPERATOR(LogSoftmax, logSoftmax);
LONGSPAN_CUDA_OPERATOR(SoftmaxBackward, softmaxBackward);
LONGSPAN_CUDA_OPERATOR(LogSoftmaxBackward, logSoftmaxBackward);

}  // namespace
}  // namespace longspan::cuda
