// Cross entropy in one pass over the logits: each thread carries the maximum and the sum of
// exponentials of what it has seen, and a team merges them once per row (Milakov and Gimelshein
// 2018). Probabilities are never stored: backward recomputes them from lse. The losses are added by
// one block, in f64 and in an order fixed by their number.
//
// A target that is no class, which the CPU refuses, makes its row's loss and gradient NaN. Cost, R
// rows of V: forward reads R V, backward reads and writes R V; one exponential each. 85 % of copy
// speed is expected of an H200, somewhat less where rows are no multiple of 16 bytes. Right on an
// H200, not timed there.
#include "cpp/ops/dense/cross_entropy.h"
#include "cuda/context.h"
#include "cuda/dispatch.cuh"
#include "cuda/rows.cuh"

namespace longspan::cuda {
namespace {

constexpr int kLossElements = 16;  // that a thread has under way
constexpr int kLossThreads = 512;  // of the block that adds the losses

struct LossGradient {
  float everywhere, onTarget, onIgnored, entropy;
};

struct Entropy {
  RowSet logits, gradLogits;
  const int32_t* target;
  Axes targets;
  const float* gradLoss;  // of one element or one per row
  Axes gradLosses;
  float *losses, *lse, *loss, *count;  // loss: null where losses are the result
  LossGradient q;
  float zLoss;
  int64_t ignoreIndex;
  bool mean;
};

template <class T, bool kAligned>
__device__ __forceinline__ void crossEntropyRow(const Entropy& p, int teamSize) {
  LONGSPAN_SHARED(shared);
  Team team(teamSize, shared);
  const int64_t index = rowOfTeam(team), tile = static_cast<int64_t>(kLossElements) * team.size;
  const bool exists = index < p.logits.axes.count;
  const Row<T, kAligned> x(p.logits, index);
  const int64_t target = exists ? p.target[p.targets.at(index)] : p.ignoreIndex;
  const bool counts = target != p.ignoreIndex;
  const bool isClass = target >= 0 && target < p.logits.length;
  Exponentials e = Exponentials::none();
  float plain = 0;
  for (int64_t first = -x.skew(); counts && first < x.length; first += tile) {
    float at[kLossElements];
    loadTile(x, first, team, at, -INFINITY);
    Exponentials next{e.top, 0};
#pragma unroll
    for (float v : at) next.top = fmaxf(next.top, v);
    const float shift = next.shift();
    next.sum = e.sum * expf(e.top - shift);
#pragma unroll
    for (float v : at) next.sum += expf(v - shift);
    e = next;
    if (p.q.everywhere != 0) {
      eachOfTile<T, kLossElements>(x.length, first, team, [&](int k, int64_t) { plain += at[k]; });
    }
  }
  e = team.all(e, MergeExponentials{});
  if (p.q.everywhere != 0) plain = team.sum(plain);
  if (team.rank != 0 || !exists) return;
  float loss = 0, lse = 0;
  if (counts) {
    lse = e.logSum();
    loss = NAN;
    if (isClass) {
      loss =
          p.q.entropy + lse - p.q.onTarget * toFloat(x.data[target * x.step]) + p.zLoss * lse * lse;
      if (p.q.everywhere != 0) loss -= p.q.everywhere * plain;
      if (p.q.onIgnored != 0) loss -= p.q.onIgnored * toFloat(x.data[p.ignoreIndex * x.step]);
    }
  }
  p.lse[index] = lse;
  p.losses[index] = loss;
}

template <class T>
__global__ void __launch_bounds__(Teams::kMost, 2)
    crossEntropyRows(const __grid_constant__ Entropy p, int teamSize) {
  crossEntropyRow<T, true>(p, teamSize);
}

__global__ void __launch_bounds__(Teams::kMost, 2)
    crossEntropyAnyRows(const __grid_constant__ Entropy p, DType dtype, int teamSize) {
  dispatchNarrow(
      dtype, [&](auto tag) { crossEntropyRow<typename decltype(tag)::type, false>(p, teamSize); });
}

struct Total {
  double loss;
  long long count;
};
struct MergeTotals {
  __device__ __forceinline__ Total operator()(Total a, Total b) const {
    return {a.loss + b.loss, a.count + b.count};
  }
};

__global__ void __launch_bounds__(kLossThreads) sumLosses(const __grid_constant__ Entropy p) {
  LONGSPAN_SHARED(shared);
  Team team(kLossThreads, shared);
  Total total{0, 0};
  for (int64_t row = team.rank; row < p.targets.count; row += kLossThreads) {
    if (p.target[p.targets.at(row)] == p.ignoreIndex) continue;
    total.loss += p.losses[row];
    total.count += 1;
  }
  total = team.all(total, MergeTotals{});
  if (team.rank != 0) return;
  *p.count = static_cast<float>(total.count);
  if (p.loss == nullptr) return;
  if (p.mean) total.loss /= static_cast<double>(total.count > 0 ? total.count : 1);
  *p.loss = static_cast<float>(total.loss);
}

template <class T, bool kAligned>
__global__ void __launch_bounds__(Teams::kMost, kAligned && sizeof(T) == 2 ? 2 : 1)
    crossEntropyBackwardRows(const __grid_constant__ Entropy p, int teamSize) {
  // Single accesses of f32 need the registers for their addresses.
  constexpr int kHeld = kAligned || sizeof(T) == 2 ? kLossElements : kLossElements / 2;
  const Team team(teamSize, nullptr);
  const int64_t index = rowOfTeam(team), tile = static_cast<int64_t>(kHeld) * team.size;
  if (index >= p.logits.axes.count) return;
  const Row<T, kAligned> x(p.logits, index), grad(p.gradLogits, index);
  const int64_t target = p.target[p.targets.at(index)];
  const bool counts = target != p.ignoreIndex;
  float scale = p.gradLoss[p.gradLosses.at(p.gradLosses.count > 1 ? index : 0)];
  if (p.mean) scale /= fmaxf(*p.count, 1);
  if (counts && (target < 0 || target >= x.length)) scale = NAN;
  const float lse = p.lse[index];
  const float slope = scale * (1 + 2 * p.zLoss * lse), everywhere = scale * p.q.everywhere;
  const float onTarget = scale * p.q.onTarget, onIgnored = scale * p.q.onIgnored;
  for (int64_t first = -x.skew(); first < x.length; first += tile) {
    float at[kHeld];
    if (counts) {
      loadTile(x, first, team, at);
      eachOfTile<T, kHeld>(x.length, first, team, [&](int k, int64_t v) {
        float g = expf(at[k] - lse) * slope - everywhere;
        if (v == target) g -= onTarget;
        if (p.q.onIgnored != 0 && v == p.ignoreIndex) g -= onIgnored;
        at[k] = g;
      });
    } else {
#pragma unroll
      for (float& v : at) v = 0;
    }
    storeTile(grad, first, team, at);
  }
}

template <class P>
Entropy entropyOf(const P& o) {
  const auto q = ops::wantedDistribution(o.smoothing, o.over, o.ignoreIndex, o.logits.dim(-1));
  Entropy p{};
  p.logits = RowSet(o.logits);
  p.target = addressOf<int32_t>(o.targets);
  p.targets = Axes::of(o.targets);
  p.lse = addressOf<float>(o.lse);
  p.count = addressOf<float>(o.count);
  p.q = {static_cast<float>(q.everywhere), static_cast<float>(q.onTarget),
         static_cast<float>(q.onIgnored), static_cast<float>(q.entropy)};
  p.zLoss = static_cast<float>(o.zLoss);
  p.ignoreIndex = o.ignoreIndex;
  p.mean = o.reduction == ops::Reduction::mean;
  return p;
}

Status crossEntropy(const ops::CrossEntropy& o, Context& context) {
  Entropy p = entropyOf(o);
  const bool each = o.reduction == ops::Reduction::none;
  p.losses = each ? addressOf<float>(o.loss) : reinterpret_cast<float*>(context.workspace.data);
  p.loss = each ? nullptr : addressOf<float>(o.loss);
  if (p.logits.axes.count > 0) {
    const Teams teams(p.logits.length, kLossElements);
    const dim3 grid = teams.grid(p.logits.axes.count);
    LONGSPAN_RETURN_IF_ERROR(dispatchNarrow(o.logits.dtype, [&](auto tag) {
      if (!p.logits.wide) {
        return launched(launch(crossEntropyAnyRows, grid, teams.block(), kTeamScratch,
                               context.stream, p, o.logits.dtype, teams.size));
      }
      return launched(launch(crossEntropyRows<typename decltype(tag)::type>, grid, teams.block(),
                             kTeamScratch, context.stream, p, teams.size));
    }));
  }
  return launched(launch(sumLosses, dim3(1), dim3(kLossThreads), kTeamScratch, context.stream, p));
}

size_t crossEntropyWorkspace(const ops::CrossEntropy& p, const Gpu&) {
  if (p.reduction == ops::Reduction::none) return 0;
  return static_cast<size_t>(p.targets.numel()) * sizeof(float);
}

Status crossEntropyBackward(const ops::CrossEntropyBackward& o, Context& context) {
  if (o.logits.numel() == 0) return {};
  Entropy p = entropyOf(o);
  p.gradLogits = RowSet(o.gradLogits);
  p.gradLoss = addressOf<float>(o.gradLoss);
  p.gradLosses = Axes::of(o.gradLoss);
  const Teams teams(p.logits.length, kLossElements);
  return dispatchNarrow(o.logits.dtype, [&](auto tag) {
    return withAlignment(p.logits.wide && p.gradLogits.wide, [&](auto aligned) {
      return launched(launch(crossEntropyBackwardRows<typename decltype(tag)::type, aligned.value>,
                             teams.grid(p.logits.axes.count), teams.block(), 0, context.stream, p,
                             teams.size));
    });
  });
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(CrossEntropy, crossEntropy, crossEntropyWorkspace);
LONGSPAN_CUDA_OPERATOR(CrossEntropyBackward, crossEntropyBackward);

}  // namespace
}  // namespace longspan::cuda
