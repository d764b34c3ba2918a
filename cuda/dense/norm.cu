// LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019) with fused residual.
//
// A team holds its row in registers: each thread takes mean and squared distances of its own
// elements, which one reduction merges (Chan et al. 1979). Longer rows are read twice. Cost, n
// elements: reads x (and residual), writes y (and s), about 8 n FLOPs: 85 to 90 % of copy speed is
// expected of an H200 for rows of up to 16384 elements. Right on an H200; times:
// bench/results/nvidia-h200.json.
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

template <class T, bool kAligned>
__device__ __forceinline__ void normRow(const Norm& p, int teamSize) {
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  constexpr int kWide = kRun<T>;
  const int64_t index = rowOfTeam(team),
                tile = static_cast<int64_t>(kNormElements<kAligned>) * team.size;
  const Row<T, kAligned> x(p.x, index), y(p.y, index);
  float s[kNormElements<kAligned>];
  Moments m{0, 0, 0};
  for (int64_t first = 0; first == 0 || first < x.length; first += tile) {
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
  const float count = static_cast<float>(p.x.length);
  const float scale = p.unbiased ? 1 / (sqrtf(m.squares / fmaxf(count - 1, 1)) + p.eps)
                                 : 1 / sqrtf(m.squares / count + p.eps);
  if (team.rank == 0 && index < p.x.axes.count) {
    if (p.centred) p.mean[index] = m.mean;
    p.scale[index] = scale;
  }
  for (int64_t first = 0; first < x.length; first += tile) {
    if (p.x.length > tile) loadSum(p, x, index, first, team, s, false);
#pragma unroll
    for (int k = 0; k < kNormElements<kAligned>; k += kWide) {
      const int64_t at = first + placeOfRun(team, k, kWide);
      float weight[kWide], bias[kWide];
      loadFeatures<kAligned>(p.weight, at, x.length - at, weight, 1);
      loadFeatures<kAligned>(p.bias, at, x.length - at, bias, 0);
#pragma unroll
      for (int j = 0; j < kWide; ++j) s[k + j] = (s[k + j] - m.mean) * scale * weight[j] + bias[j];
    }
    storeTile(y, first, team, s);
  }
}

template <class T>
__global__ void __launch_bounds__(Teams::kMost, 1)
    normRows(const __grid_constant__ Norm p, int teamSize) {
  normRow<T, true>(p, teamSize);
}

__global__ void __launch_bounds__(Teams::kMost, 1)
    normAnyRows(const __grid_constant__ Norm p, DType dtype, int teamSize) {
  dispatchNarrow(dtype,
                 [&](auto tag) { normRow<typename decltype(tag)::type, false>(p, teamSize); });
}

Status forward(const Norm& p, DType dtype, Context& context) {
  if (p.x.length == 0 || p.x.axes.count == 0) return {};
  const auto wide = [](const RowSet& rows) { return rows.data == nullptr || rows.wide; };
  const bool allWide =
      p.x.wide && wide(p.residual) && wide(p.sum) && p.y.wide && p.weight.wide && p.bias.wide;
  const Teams teams(p.x.length, allWide ? kNormElements<true> : kNormElements<false>);
  const dim3 grid = teams.grid(p.x.axes.count);
  if (!allWide) {
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
