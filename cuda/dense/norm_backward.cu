// Gradients of layerNorm and rmsNorm (cpp/ops/dense/norm.h).
//
// A block takes a fixed share of the rows, a team a row at a time, the row in registers. What the
// rows add to the gradients of weight and bias stays in registers too; the blocks' sums are added
// by a second kernel. Shares depend on the shape alone, so the order of all sums does. Rows too
// long for the registers are read twice, and their sums kept in the workspace. Cost, n elements:
// reads s and gradY (and gradSum), writes gradS, about 15 n FLOPs; the blocks' sums are written and
// read once, 8 bytes a feature for each of at most 2048 blocks. 80 to 85 % of copy speed is
// expected of an H200 for rows of up to 8192 elements. Right on an H200, not timed there, before
// features.cuh loaded weights of another type in words.
#include <algorithm>

#include "cpp/ops/dense/norm.h"
#include "cuda/context.h"
#include "cuda/dense/features.cuh"
#include "cuda/dispatch.cuh"

namespace longspan::cuda {
namespace {

// That a thread holds of each of two rows and two sums; of longer rows, which have more code.
constexpr int kNormBackwardElements = 16, kNormBackwardLongElements = 8;

struct NormBackward {
  RowSet gradY, gradSum, s, gradS;
  Features weight;
  const float *mean, *scale;
  float* partial;  // [1 or 2][blocks][n]: gradients of weight (and bias); null: not wanted
  int64_t rowsPerBlock;
  float eps;
  bool centred, unbiased, wantBias;
};

struct NormRow {
  float mean, scale, level, slope;
};

// What the row's gradients have in normBackwardOf, from the sums of d * xhat and of d.
__device__ __forceinline__ void finishRow(const NormBackward& p, Sums sums, NormRow& r) {
  const float count = static_cast<float>(p.s.length);
  r.level = p.centred ? sums.second / count : 0;
  r.slope = sums.first / count;
  if (p.unbiased) {
    // scale * (deviation + eps) = 1; a constant row has no direction to project out.
    const float deviation = 1 / r.scale - p.eps;
    r.slope =
        deviation > 0 && p.s.length > 1 ? sums.first / (r.scale * deviation * (count - 1)) : 0;
  }
}

// d = g * weight and its sums; g goes into the sums of the weight's gradients where wanted.
template <class T, bool kAligned, int n>
__device__ __forceinline__ Sums weigh(const NormBackward& p, const NormRow& r, int64_t first,
                                      const Team& team, const float (&x)[n], float (&g)[n]) {
  constexpr int kWide = kRun<T>;
  const bool ofRow = kAligned && p.weight.absentOr(kDtypeOf<T>);
  Sums sums{0, 0};
#pragma unroll
  for (int k = 0; k < n; k += kWide) {
    const int64_t at = first + placeOfRun(team, k, kWide);
    float weight[kWide];
    loadFeatures<kAligned, T>(p.weight, at, p.s.length - at, weight, 1, ofRow);
#pragma unroll
    for (int j = 0; j < kWide; ++j) {
      const float d = g[k + j] *= weight[j];
      sums.first += d * ((x[k + j] - r.mean) * r.scale);
      sums.second += d;
    }
  }
  return sums;
}

template <class T, bool kAligned, int n>
__device__ __forceinline__ void storeGradient(const NormBackward& p, const NormRow& r,
                                              int64_t index, int64_t first, const Team& team,
                                              float (&x)[n], const float (&d)[n]) {
#pragma unroll
  for (int k = 0; k < n; ++k) {
    x[k] = (d[k] - r.level - (x[k] - r.mean) * r.scale * r.slope) * r.scale;
  }
  if (p.gradSum.data != nullptr) {
    const Row<T, kAligned> other(p.gradSum, index);
    float more[n];
    loadTile(other, first, team, more);
#pragma unroll
    for (int k = 0; k < n; ++k) x[k] += more[k];
  }
  storeTile(Row<T, kAligned>(p.gradS, index), first, team, x);
}

// Adds the teams' sums and writes the block's.
template <class T>
__device__ __forceinline__ void storePartial(const float (&sum)[kNormBackwardElements],
                                             const Team& team, float* tiles, int64_t length,
                                             float* partial) {
  const int tile = kNormBackwardElements * team.size, teams = blockDim.x / team.size;
  float* own = tiles + teamInBlock(team) * tile;
  __syncthreads();
  eachOfTile<T, kNormBackwardElements>(length, 0, team,
                                       [&](int k, int64_t at) { own[at] = sum[k]; });
  __syncthreads();
  for (int at = threadIdx.x; at < length; at += blockDim.x) {
    float total = 0;
    for (int t = 0; t < teams; ++t) total += tiles[t * tile + at];
    partial[at] = total;
  }
}

__device__ __forceinline__ NormRow stateOf(const NormBackward& p, int64_t index, bool exists) {
  NormRow r{0, 0, 0, 0};
  if (!exists) return r;
  if (p.centred) r.mean = p.mean[index];
  r.scale = p.scale[index];
  return r;
}

// Rows of at most one tile.
template <class T, bool kAligned>
__global__ void __launch_bounds__(Teams::kMost, 1)
    normBackwardRows(const __grid_constant__ NormBackward p, int teamSize) {
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const int64_t begin = blockIdx.x * p.rowsPerBlock,
                end = min(p.s.axes.count, begin + p.rowsPerBlock);
  const int teams = blockDim.x / team.size;
  float sumWeight[kNormBackwardElements] = {}, sumBias[kNormBackwardElements] = {};
  for (int64_t row = begin; row < end; row += teams) {
    const bool exists = row + teamInBlock(team) < end;
    const int64_t index = exists ? row + teamInBlock(team) : p.s.axes.count;
    float x[kNormBackwardElements], g[kNormBackwardElements];
    loadTile(Row<T, kAligned>(p.s, index), 0, team, x);
    loadTile(Row<T, kAligned>(p.gradY, index), 0, team, g);
    NormRow r = stateOf(p, index, exists);
    if (p.partial != nullptr) {
#pragma unroll
      for (int k = 0; k < kNormBackwardElements; ++k) {
        sumWeight[k] += g[k] * ((x[k] - r.mean) * r.scale);
        sumBias[k] += g[k];
      }
    }
    if (p.gradS.data == nullptr) continue;
    Sums sums = weigh<T, kAligned>(p, r, 0, team, x, g);
    // Beyond the row's end g is 0.
    sums = team.all(sums, AddSums{});
    finishRow(p, sums, r);
    storeGradient<T, kAligned>(p, r, index, 0, team, x, g);
  }
  if (p.partial == nullptr) return;
  float* tiles = reinterpret_cast<float*>(shared + kTeamScratch);
  const int64_t n = p.s.length;
  storePartial<T>(sumWeight, team, tiles, n, p.partial + blockIdx.x * n);
  if (p.wantBias) {
    storePartial<T>(sumBias, team, tiles, n, p.partial + (gridDim.x + blockIdx.x) * n);
  }
}

// Longer rows: a team is a block. A thread adds to the same features of the workspace in every row.
template <class T>
__device__ __forceinline__ void normBackwardLong(const NormBackward& p) {
  LONGSPAN_SHARED(shared);
  Team team(blockDim.x, shared);
  const int64_t begin = blockIdx.x * p.rowsPerBlock,
                end = min(p.s.axes.count, begin + p.rowsPerBlock);
  const int64_t n = p.s.length, tile = static_cast<int64_t>(kNormBackwardLongElements) * team.size;
  float* sumWeight = p.partial + blockIdx.x * n;
  float* sumBias = p.partial + (gridDim.x + blockIdx.x) * n;
  for (int64_t row = begin; row < end; ++row) {
    const Row<T> s(p.s, row), gradY(p.gradY, row);
    NormRow r = stateOf(p, row, true);
    float x[kNormBackwardLongElements], g[kNormBackwardLongElements];
    Sums sums{0, 0};
    for (int64_t first = 0; first < n; first += tile) {
      loadTile(s, first, team, x);
      loadTile(gradY, first, team, g);
      if (p.partial != nullptr) {
        eachOfTile<T, kNormBackwardLongElements>(n, first, team, [&](int k, int64_t at) {
          const float one = g[k] * ((x[k] - r.mean) * r.scale);
          sumWeight[at] = row == begin ? one : sumWeight[at] + one;
          if (p.wantBias) sumBias[at] = row == begin ? g[k] : sumBias[at] + g[k];
        });
      }
      sums = AddSums{}(sums, weigh<T, false>(p, r, first, team, x, g));
    }
    if (p.gradS.data == nullptr) continue;
    sums = team.all(sums, AddSums{});
    finishRow(p, sums, r);
    for (int64_t first = 0; first < n; first += tile) {
      loadTile(s, first, team, x);
      loadTile(gradY, first, team, g);
      weigh<T, false>(p, r, first, team, x, g);
      storeGradient<T, false>(p, r, row, first, team, x, g);
    }
  }
}

__global__ void __launch_bounds__(Teams::kMost, 1)
    normBackwardLongRows(const __grid_constant__ NormBackward p, DType dtype) {
  dispatchNarrow(dtype, [&](auto tag) { normBackwardLong<typename decltype(tag)::type>(p); });
}

// target[c] = sum over blocks of partial[block][c], in an order fixed by their number.
__global__ void __launch_bounds__(ColumnTeam::kThreads)
    sumPartials(const float* partial, int64_t blocks, int64_t n, void* target, DType dtype) {
  LONGSPAN_SHARED(shared);
  ColumnTeam team(shared);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * ColumnTeam::kColumns + team.column;
  float sum = 0;
  if (c < n) {
#pragma unroll 4
    for (int64_t b = team.slice; b < blocks; b += ColumnTeam::kSlices) sum += partial[b * n + c];
  }
  sum = team.all(sum, Add{});
  if (c < n && team.slice == 0) storeAs(target, dtype, c, sum);
}

struct NormBackwardPlan {
  Teams teams;
  int64_t rowsPerBlock, blocks;
  bool wantWeight, wantBias;

  NormBackwardPlan(const TensorView& s, bool weight, bool bias)
      : teams(s.dim(-1), kNormBackwardElements), wantWeight(weight || bias), wantBias(bias) {
    int64_t rows = 1;
    for (int i = 0; i + 1 < s.rank; ++i) rows *= s.shape[i];
    const int64_t most = teams.perBlock > 1 ? 2048 : 512;
    rowsPerBlock = wantWeight ? std::max<int64_t>(8, (rows + most - 1) / most) : 1;
    rowsPerBlock = (rowsPerBlock + teams.perBlock - 1) / teams.perBlock * teams.perBlock;
    blocks = (rows + rowsPerBlock - 1) / rowsPerBlock;
  }
  size_t workspace(int64_t n) const {
    return static_cast<size_t>((wantWeight + wantBias) * blocks * n) * sizeof(float);
  }
};

Status sumInto(const TensorView& target, const float* partial, const NormBackwardPlan& plan,
               Context& context) {
  if (!target.defined()) return {};
  const int64_t n = target.shape[0];
  return launched(
      launch(sumPartials,
             dim3(static_cast<uint32_t>((n + ColumnTeam::kColumns - 1) / ColumnTeam::kColumns)),
             ColumnTeam::kThreads, ColumnTeam::kThreads * sizeof(float), context.stream, partial,
             plan.blocks, n, addressOf<void>(target), target.dtype));
}

Status backward(NormBackward p, const TensorView& s, const TensorView& gradWeight,
                const TensorView& gradBias, Context& context) {
  const int64_t n = s.dim(-1);
  if (n == 0) return {};
  const NormBackwardPlan plan(s, gradWeight.defined(), gradBias.defined());
  p.rowsPerBlock = plan.rowsPerBlock;
  p.wantBias = plan.wantBias;
  if (plan.wantWeight) p.partial = reinterpret_cast<float*>(context.workspace.data);
  if (plan.blocks > 0) {
    const int threads = plan.teams.threads();
    const auto wide = [](const RowSet& rows) { return rows.data == nullptr || rows.wide; };
    const bool allWide =
        wide(p.s) && wide(p.gradY) && wide(p.gradSum) && wide(p.gradS) && p.weight.wide;
    LONGSPAN_RETURN_IF_ERROR(dispatchNarrow(s.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const dim3 grid(static_cast<uint32_t>(plan.blocks)), block(static_cast<uint32_t>(threads));
      if (n > static_cast<int64_t>(plan.teams.size) * kNormBackwardElements) {
        return launched(
            launch(normBackwardLongRows, grid, block, kTeamScratch, context.stream, p, s.dtype));
      }
      const size_t tiles =
          plan.wantWeight ? static_cast<size_t>(threads) * kNormBackwardElements * sizeof(float)
                          : 0;
      return withAlignment(allWide, [&](auto aligned) {
        return launched(launch(normBackwardRows<T, aligned.value>, grid, block,
                               kTeamScratch + tiles, context.stream, p, plan.teams.size));
      });
    }));
  }
  LONGSPAN_RETURN_IF_ERROR(sumInto(gradWeight, p.partial, plan, context));
  return sumInto(gradBias, p.partial + plan.blocks * n, plan, context);
}

NormBackward normBackwardOf(const TensorView& gradY, const TensorView& gradSum, const TensorView& s,
                            const TensorView& gradS, const TensorView& weight,
                            const TensorView& scale) {
  NormBackward p{};
  p.gradY = RowSet(gradY);
  p.gradSum = RowSet(gradSum);
  p.s = RowSet(s);
  p.gradS = RowSet(gradS);
  p.weight = Features(weight);
  p.scale = addressOf<float>(scale);
  return p;
}

Status layerNormBackward(const ops::LayerNormBackward& o, Context& context) {
  NormBackward p = normBackwardOf(o.gradY, o.gradSum, o.s, o.gradS, o.weight, o.scale);
  p.mean = addressOf<float>(o.mean);
  p.eps = static_cast<float>(o.eps);
  p.centred = true;
  p.unbiased = o.unbiased;
  return backward(p, o.s, o.gradWeight, o.gradBias, context);
}

Status rmsNormBackward(const ops::RmsNormBackward& o, Context& context) {
  return backward(normBackwardOf(o.gradY, o.gradSum, o.s, o.gradS, o.weight, o.scale), o.s,
                  o.gradWeight, TensorView{}, context);
}

size_t layerNormBackwardWorkspace(const ops::LayerNormBackward& p, const Gpu&) {
  return NormBackwardPlan(p.s, p.wantWeight, p.wantBias).workspace(p.s.dim(-1));
}
size_t rmsNormBackwardWorkspace(const ops::RmsNormBackward& p, const Gpu&) {
  return NormBackwardPlan(p.s, p.wantWeight, false).workspace(p.s.dim(-1));
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(LayerNormBackward, layerNormBackward,
                                      layerNormBackwardWorkspace);
LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(RmsNormBackward, rmsNormBackward, rmsNormBackwardWorkspace);

}  // namespace
}  // namespace longspan::cuda
