// Reductions over any axes by a small struct that says what is kept of the elements:
//
//   struct Policy {
//     using Value = float;              // elements are widened to this
//     struct State { ... };             // of 4 to 16 bytes
//     State none() const;               // of no element
//     void add(State&, Value, int64_t index) const;
//     void addRun(State&, const Value (&)[n], int64_t index) const;  // n neighbours
//     State operator()(State, State) const;          // merges
//     void finish(const State&, int64_t output) const;  // writes the result
//   };
//
// By rows a team runs through the elements of one output; by columns, where neighbours in memory
// belong to different outputs, a thread takes 16 bytes of neighbours and the rows of its slice. A
// long reduction is cut into pieces, whose states a second kernel merges. Pieces depend on the
// shape and strides alone, and so does the order of all sums.
#pragma once

#include <algorithm>
#include <vector>

#include "cuda/context.h"
#include "cuda/rows.cuh"

namespace longspan::cuda {

// Plain data but for its maker: a kernel's argument.
struct ReductionPlan {
  static constexpr int64_t kBlocks = 1024;      // that keep a GPU busy
  static constexpr int64_t kRowPiece = 16384;   // least elements of a piece
  static constexpr int64_t kColumnPiece = 256;  // least rows

  Axes kept, reduced;
  bool byColumns = false;
  bool wide = false;  // runs are one access: along the reduced or the kept axis
  int64_t piece = 1;  // elements or rows
  int64_t pieces = 1;
  int64_t run = 1;  // of a thread, in elements

  ReductionPlan(const TensorView& x, const std::vector<int64_t>& axes) {
    run = 16 / static_cast<int64_t>(sizeOf(x.dtype));
    size_t next = 0;
    for (int i = 0; i < x.rank; ++i) {
      const bool isReduced = next < axes.size() && axes[next] == i;
      if (isReduced) ++next;
      (isReduced ? reduced : kept).add(x.shape[i], x.stride[i]);
    }
    const auto distance = [](const Axes& a) {
      return a.rank > 0 ? std::max(a.innerStride(), -a.innerStride()) : INT64_MAX;
    };
    byColumns = kept.inner() >= 8 && distance(kept) < distance(reduced);
    const Axes &inner = byColumns ? kept : reduced, &outer = byColumns ? reduced : kept;
    wide = inner.innerStride() == 1 && inner.inner() % run == 0 &&
           inner.stridesDivideBy(run, inner.rank - 1) && outer.stridesDivideBy(run, outer.rank);
    const int64_t blocks = byColumns ? columnBlocks() : kept.count;
    const int64_t least = byColumns ? kColumnPiece : kRowPiece;
    pieces = std::max<int64_t>(
        1, std::min(kBlocks / std::max<int64_t>(blocks, 1), (reduced.count + least - 1) / least));
    piece = std::max<int64_t>(1, (reduced.count + pieces - 1) / pieces);
    piece = (piece + run - 1) / run * run;
    pieces = std::max<int64_t>(1, (reduced.count + piece - 1) / piece);
  }
  // Blocks of columns: each thread has a run of them.
  int64_t columnBlocks() const {
    const int64_t width = ColumnTeam::kColumns * run;
    return (kept.count + width - 1) / width;
  }
  __host__ __device__ int64_t outputs() const { return kept.count; }
  int64_t partials() const { return pieces > 1 ? pieces * kept.count : 0; }
};

// Elements a thread has under way along a row: 128 bytes of f32. Rows of 1024 are a warp's.
inline constexpr int kReduceElements = 32;

// A team takes a piece of one output.
template <class T, class Policy>
__device__ __forceinline__ void reduceRow(const ReductionPlan& plan, const Policy& policy,
                                          const T* x, typename Policy::State* partial,
                                          int teamSize) {
  constexpr int kWide = kRun<T>, kElements = kReduceElements;
  using Value = typename Policy::Value;
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const int64_t item = rowOfTeam(team);
  const bool exists = item < plan.outputs() * plan.pieces;
  const int64_t output = exists ? item / plan.pieces : 0;
  const int64_t begin = (item - output * plan.pieces) * plan.piece;
  const int64_t end = exists ? min(plan.reduced.count, begin + plan.piece) : 0;
  const T* base = x + plan.kept.at(output);
  const bool oneAxis = plan.reduced.rank <= 1;
  typename Policy::State state = policy.none();
  for (int64_t first = begin; first < end; first += static_cast<int64_t>(kElements) * team.size) {
    if (plan.wide) {
      Vector<T, kWide> runs[kElements / kWide];
#pragma unroll
      for (int k = 0; k < kElements; k += kWide) {
        const int64_t from = first + placeOfRun(team, k, kWide);
        if (from < end)
          loadVector(base + (oneAxis ? from : plan.reduced.at(from)), runs[k / kWide]);
      }
#pragma unroll
      for (int k = 0; k < kElements; k += kWide) {
        const int64_t from = first + placeOfRun(team, k, kWide);
        if (from >= end) continue;
        Value v[kWide];
#pragma unroll
        for (int j = 0; j < kWide; ++j) v[j] = widen<Value>(runs[k / kWide].at[j]);
        policy.addRun(state, v, from);
      }
    } else {
#pragma unroll 1
      for (int k = 0; k < kElements; k += kWide) {
        const int64_t from = first + placeOfRun(team, k, kWide);
#pragma unroll 4
        for (int j = 0; j < kWide; ++j) {
          if (from + j >= end) continue;
          policy.add(state, widen<Value>(base[plan.reduced.at(from + j)]), from + j);
        }
      }
    }
  }
  state = team.all(state, policy);
  if (team.rank != 0 || !exists) return;
  if (partial == nullptr) {
    policy.finish(state, output);
  } else {
    partial[item] = state;
  }
}

// grid (column blocks, pieces): 32 threads beside each other take 32 runs of columns, 16 slices the
// rows of the piece.
template <class T, class Policy>
__device__ __forceinline__ void reduceColumn(const ReductionPlan& plan, const Policy& policy,
                                             const T* x, typename Policy::State* partial) {
  constexpr int kWide = kRun<T>;
  using Value = typename Policy::Value;
  using State = typename Policy::State;
  LONGSPAN_SHARED(shared);
  ColumnTeam team(shared);
  const int64_t column =
      (static_cast<int64_t>(blockIdx.x) * ColumnTeam::kColumns + team.column) * kWide;
  const int64_t begin = blockIdx.y * plan.piece, end = min(plan.reduced.count, begin + plan.piece);
  const int64_t most = plan.outputs() - 1;
  // Threads beyond the last column read the last run.
  const int64_t from = plan.wide ? min(column, plan.outputs() - kWide) : column;
  State state[kWide];
  int64_t at[kWide];
#pragma unroll
  for (int j = 0; j < kWide; ++j) {
    state[j] = policy.none();
    at[j] = plan.kept.at(min(from + j, most));
  }
  int64_t row = begin + team.slice;
  if (plan.wide && plan.reduced.rank <= 1) {
    // Several rows under way: 64 bytes of each thread.
    constexpr int kBatch = 4, kStep = ColumnTeam::kSlices;
    const int64_t step = plan.reduced.rank == 0 ? 0 : plan.reduced.stride[0];
    for (; row + (kBatch - 1) * kStep < end; row += kBatch * kStep) {
      Vector<T, kWide> runs[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) loadVector(x + at[0] + (row + i * kStep) * step, runs[i]);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
#pragma unroll
        for (int j = 0; j < kWide; ++j) {
          policy.add(state[j], widen<Value>(runs[i].at[j]), row + i * kStep);
        }
      }
    }
  }
  for (; row < end; row += ColumnTeam::kSlices) {
    const T* line = x + plan.reduced.at(row);
    Value v[kWide];
    if (plan.wide) {
      loadRun<T, kWide>(line + at[0], v);
    } else {
#pragma unroll
      for (int j = 0; j < kWide; ++j) v[j] = widen<Value>(line[at[j]]);
    }
#pragma unroll
    for (int j = 0; j < kWide; ++j) policy.add(state[j], v[j], row);
  }
  // One copy of the code for all columns of a run; registers cannot be indexed, so each is
  // selected.
#pragma unroll 1
  for (int j = 0; j < kWide; ++j) {
    State own = state[0];
#pragma unroll
    for (int i = 1; i < kWide; ++i) {
      if (i == j) own = state[i];
    }
    const State result = team.all(own, policy);
    if (team.slice != 0 || column + j > most) continue;
    if (partial == nullptr) {
      policy.finish(result, column + j);
    } else {
      partial[blockIdx.y * plan.outputs() + column + j] = result;
    }
  }
}

// Types that are reduced alike share kernels, behind a uniform branch.
template <class Value, class F>
__device__ __forceinline__ void withElements(const void* x, DType dtype, F&& f) {
  if constexpr (std::is_same_v<Value, float>) {
    dispatchNarrow(dtype,
                   [&](auto tag) { f(static_cast<const typename decltype(tag)::type*>(x)); });
  } else if (dtype == DType::u8) {
    f(static_cast<const uint8_t*>(x));
  } else {
    f(static_cast<const int32_t*>(x));
  }
}

template <class Policy>
__global__ void __launch_bounds__(Teams::kMost, 1)
    reduceRows(const __grid_constant__ ReductionPlan plan, const __grid_constant__ Policy policy,
               const void* x, DType dtype, typename Policy::State* partial, int teamSize) {
  withElements<typename Policy::Value>(
      x, dtype, [&](auto* at) { reduceRow(plan, policy, at, partial, teamSize); });
}

template <class Policy>
__global__ void __launch_bounds__(ColumnTeam::kThreads, sizeof(typename Policy::State) == 4 ? 2 : 1)
    reduceColumns(const __grid_constant__ ReductionPlan plan, const __grid_constant__ Policy policy,
                  const void* x, DType dtype, typename Policy::State* partial) {
  withElements<typename Policy::Value>(x, dtype,
                                       [&](auto* at) { reduceColumn(plan, policy, at, partial); });
}

// Merges the pieces of each output.
template <class Policy>
__global__ void __launch_bounds__(ColumnTeam::kThreads, 1)
    mergePieces(const __grid_constant__ Policy policy, const typename Policy::State* partial,
                int64_t outputs, int64_t pieces, int64_t outputStep, int64_t pieceStep) {
  LONGSPAN_SHARED(shared);
  ColumnTeam team(shared);
  const int64_t output = static_cast<int64_t>(blockIdx.x) * ColumnTeam::kColumns + team.column;
  typename Policy::State state = policy.none();
  for (int64_t i = team.slice; output < outputs && i < pieces; i += ColumnTeam::kSlices) {
    state = policy(state, partial[output * outputStep + i * pieceStep]);
  }
  state = team.all(state, policy);
  if (output < outputs && team.slice == 0) policy.finish(state, output);
}

template <class Policy>
size_t reductionWorkspace(const ReductionPlan& plan) {
  return static_cast<size_t>(plan.partials()) * sizeof(typename Policy::State);
}

// Reduces x; workspace as declared by reductionWorkspace.
template <class Policy>
Status reduceBy(const Policy& policy, ReductionPlan plan, const TensorView& x, Context& context) {
  using State = typename Policy::State;
  if (plan.outputs() == 0) return {};
  const void* data = addressOf<void>(x);
  plan.wide = plan.wide && aligned16(data);
  State* partial = plan.pieces > 1 ? reinterpret_cast<State*>(context.workspace.data) : nullptr;
  if (plan.byColumns) {
    const dim3 grid(static_cast<uint32_t>(plan.columnBlocks()), static_cast<uint32_t>(plan.pieces));
    LONGSPAN_RETURN_IF_ERROR(launched(launch(reduceColumns<Policy>, grid, ColumnTeam::kThreads,
                                             ColumnTeam::kThreads * sizeof(State), context.stream,
                                             plan, policy, data, x.dtype, partial)));
  } else {
    const Teams teams(plan.piece, kReduceElements);
    LONGSPAN_RETURN_IF_ERROR(launched(
        launch(reduceRows<Policy>, teams.grid(plan.outputs() * plan.pieces), teams.block(),
               kTeamScratch, context.stream, plan, policy, data, x.dtype, partial, teams.size)));
  }
  if (partial == nullptr) return {};
  const auto blocks =
      static_cast<uint32_t>((plan.outputs() + ColumnTeam::kColumns - 1) / ColumnTeam::kColumns);
  return launched(launch(mergePieces<Policy>, dim3(blocks), ColumnTeam::kThreads,
                         ColumnTeam::kThreads * sizeof(State), context.stream, policy, partial,
                         plan.outputs(), plan.pieces, plan.byColumns ? 1 : plan.pieces,
                         plan.byColumns ? plan.outputs() : 1));
}

}  // namespace longspan::cuda
