// LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019) with fused residual.
//
// A team holds its row in registers: a sum gives the mean, a second one the squares about it. Rows
// of up to 1024 elements are a warp's, without barriers. Rows longer than 16384 elements, or
// than 4096 that are not aligned, are taken tile by tile and read twice, their moments merged (Chan
// et al. 1979). Cost, n elements: reads x (and residual), writes y (and s), about 8 n FLOPs.
//
// Instructions of an element of rows of 1024 in SASS for sm_90a, counted, not timed: 27 in bf16, of
// which 4 fetch and widen weight and bias. An H200 issues 29 in the time of copying a bf16 element,
// 58 for f32. Predicted: 90 % of copy speed in f32, about 80 % in 16 bits. In this form not yet run
// on hardware; the form before, which merged moments in every reduction, was right on an H200 and
// had 77 % of copy speed in f32 and 52 % in bf16 (bench/results/nvidia-h200.json, 28 November
// 2026).
#include "cpp/ops/dense/norm.h"
#include "cuda/context.h"
#include "cuda/dense/features.cuh"
#include "cuda/dispatch.cuh"

namespace longspan::cuda {
namespace {

// That a thread holds; the general way needs more registers for addresses, and more code.
template <bool kAligned>
inline constexpr int kNormElements = kAligned ? 32 : 8;

// One description for both norms: rmsNorm is not centred and has no bias.
struct Norm {
  RowSet x, residual, y, sum;
  Features weight, bias;
  float *mean, *scale;
  float eps;
  bool centred, unbiased;
};

// The thread's part of s = x + residual, rounded as it is kept; kept when `store`.
template <class T, bool kAligned>
__device__ __forceinline__ void loadSum(const Norm& p, const Row<T, kAligned>& x, int64_t index,
                                        int64_t first, const Team& team,
                                        float (&s)[kNormElements<kAligned>], bool store) {
  if (p.residual.data == nullptr) return loadTile(x, first, team, s);
  const Row<T, kAligned> sum(p.sum, index);
  if (!store) return loadTile(sum, first, team, s);
  const Row<T, kAligned> residual(p.residual, index);
  loadTile(x, first, team, s);
  constexpr int kWide = kRun<T>;
  const bool inRuns = residual.inRuns(first);
#pragma unroll
  for (int k = 0; k < kNormElements<kAligned>; k += kWide) {
    const int64_t at = first + placeOfRun(team, k, kWide);
    float r[kWide];
    loadRow(residual, at, inRuns, r, 0);
#pragma unroll
    for (int j = 0; j < kWide; ++j) s[k + j] = toFloat(fromFloat<T>(s[k + j] + r[j]));
  }
  storeTile(sum, first, team, s);
}

// Moments of the thread's part of a tile; without centring, squares alone.
template <class T, int n>
__device__ __forceinline__ Moments momentsOf(const float (&s)[n], int64_t length, int64_t first,
                                             const Team& team, bool centred) {
  Moments m{0, 0, 0};
  if (centred) {
    eachOfTile<T, n>(length, first, team, [&](int k, int64_t) {
      m.count += 1;
      m.mean += s[k];
    });
    if (m.count > 0) m.mean /= m.count;
  }
  eachOfTile<T, n>(length, first, team, [&](int k, int64_t) {
    const float d = s[k] - m.mean;
    m.squares += d * d;
  });
  return m;
}

// The mean of a row that is one tile, and of its elements the squares about it; s becomes the
// distances. Elements beyond the row are 0 and stay so.
template <class T, bool kAligned, int n>
__device__ __forceinline__ Moments centre(float (&s)[n], int64_t length, Team& team, bool centred) {
  Moments m{static_cast<float>(length), 0, 0};
  if (centred) {
#pragma unroll
    for (const float x : s) m.mean += x;
    m.mean = team.sum(m.mean) / m.count;
    eachOfTile<T, n, kAligned>(length, 0, team, [&](int k, int64_t) { s[k] -= m.mean; });
  }
#pragma unroll
  for (const float x : s) m.squares += x * x;
  m.squares = team.sum(m.squares);
  return m;
}

// 1 / standard deviation, or what stands for it, of a row with these squares; kept with the mean.
__device__ __forceinline__ float scaleOf(const Norm& p, const Moments& m, int64_t index,
                                         const Team& team) {
  const float count = static_cast<float>(p.x.length);
  const float scale = p.unbiased ? 1 / (sqrtf(m.squares / fmaxf(count - 1, 1)) + p.eps)
                                 : 1 / sqrtf(m.squares / count + p.eps);
  if (team.rank == 0 && index < p.x.axes.count) {
    if (p.centred) p.mean[index] = m.mean;
    p.scale[index] = scale;
  }
  return scale;
}

// y of a tile, from s of which `mean` is still to be taken off.
template <class T, bool kAligned>
__device__ __forceinline__ void storeScaled(const Norm& p, const Row<T, kAligned>& y, int64_t first,
                                            const Team& team, float (&s)[kNormElements<kAligned>],
                                            float mean, float scale) {
  constexpr int kWide = kRun<T>;
  const bool ofRow = kAligned && p.weight.absentOr(kDtypeOf<T>) && p.bias.absentOr(kDtypeOf<T>);
#pragma unroll
  for (int k = 0; k < kNormElements<kAligned>; k += kWide) {
    const int64_t at = first + placeOfRun(team, k, kWide);
    float weight[kWide], bias[kWide];
    loadFeatures<kAligned, T>(p.weight, at, y.length - at, weight, 1, ofRow);
    loadFeatures<kAligned, T>(p.bias, at, y.length - at, bias, 0, ofRow);
#pragma unroll
    for (int j = 0; j < kWide; ++j) s[k + j] = (s[k + j] - mean) * scale * weight[j] + bias[j];
  }
  storeTile(y, first, team, s);
}

// A row that the team's registers hold.
template <class T, bool kAligned>
__device__ __forceinline__ void normTile(const Norm& p, const Row<T, kAligned>& x,
                                         const Row<T, kAligned>& y, int64_t index, Team& team) {
  float s[kNormElements<kAligned>];
  loadSum(p, x, index, 0, team, s, true);
  const Moments m = centre<T, kAligned>(s, x.length, team, p.centred);
  storeScaled(p, y, 0, team, s, 0, scaleOf(p, m, index, team));
}

template <class T>
__global__ void __launch_bounds__(Teams::kMost, 1)
    normRows(const __grid_constant__ Norm p, int teamSize) {
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const int64_t index = rowOfTeam(team);
  const Row<T, true> x(p.x, index), y(p.y, index);
  normTile(p, x, y, index, team);
}

template <class T>
__device__ __forceinline__ void normAnyRow(const Norm& p, int teamSize) {
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const int64_t index = rowOfTeam(team),
                tile = static_cast<int64_t>(kNormElements<false>) * team.size;
  const Row<T> x(p.x, index), y(p.y, index);
  if (p.x.length <= tile) return normTile(p, x, y, index, team);
  float s[kNormElements<false>];
  Moments m{0, 0, 0};
  for (int64_t first = 0; first < x.length; first += tile) {
    loadSum(p, x, index, first, team, s, true);
    const Moments next = momentsOf<T>(s, x.length, first, team, p.centred);
    if (p.centred) {
      m = first == 0 ? next : MergeMoments{}(m, next);
    } else {
      m.squares += next.squares;
    }
  }
  if (p.centred) {
    m = team.all(m, MergeMoments{});
  } else {
    m.squares = team.sum(m.squares);
  }
  const float scale = scaleOf(p, m, index, team);
  for (int64_t first = 0; first < x.length; first += tile) {
    loadSum(p, x, index, first, team, s, false);
    storeScaled(p, y, first, team, s, m.mean, scale);
  }
}

__global__ void __launch_bounds__(Teams::kMost, 1)
    normAnyRows(const __grid_constant__ Norm p, DType dtype, int teamSize) {
  dispatchNarrow(dtype, [&](auto tag) { normAnyRow<typename decltype(tag)::type>(p, teamSize); });
}

Status forward(const Norm& p, DType dtype, Context& context) {
  if (p.x.length == 0 || p.x.axes.count == 0) return {};
  const auto wide = [](const RowSet& rows) { return rows.data == nullptr || rows.wide; };
  const bool held = p.x.wide && wide(p.residual) && wide(p.sum) && p.y.wide && p.weight.wide &&
                    p.bias.wide && p.x.length <= kNormElements<true> * Teams::kMost;
  const Teams teams(p.x.length, held ? kNormElements<true> : kNormElements<false>);
  const dim3 grid = teams.grid(p.x.axes.count);
  if (!held) {
    return launched(launch(normAnyRows, grid, teams.block(), kTeamScratch, context.stream, p, dtype,
                           teams.size));
  }
  return dispatchNarrow(dtype, [&](auto tag) {
    return launched(launch(normRows<typename decltype(tag)::type>, grid, teams.block(),
                           kTeamScratch, context.stream, p, teams.size));
  });
}

Status layerNorm(const ops::LayerNorm& p, Context& context) {
  return forward({RowSet(p.x), RowSet(p.residual), RowSet(p.y), RowSet(p.sum), Features(p.weight),
                  Features(p.bias), addressOf<float>(p.mean), addressOf<float>(p.scale),
                  static_cast<float>(p.eps), true, p.unbiased},
                 p.x.dtype, context);
}

Status rmsNorm(const ops::RmsNorm& p, Context& context) {
  return forward(
      {RowSet(p.x), RowSet(p.residual), RowSet(p.y), RowSet(p.sum), Features(p.weight), Features(),
       nullptr, addressOf<float>(p.scale), static_cast<float>(p.eps), false, false},
      p.x.dtype, context);
}

LONGSPAN_CUDA_OPERATOR(LayerNorm, layerNorm);
LONGSPAN_CUDA_OPERATOR(RmsNorm, rmsNorm);

}  // namespace
}  // namespace longspan::cuda
