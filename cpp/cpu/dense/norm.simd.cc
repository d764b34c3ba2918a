// LayerNorm (Ba et al. 2016) and RMSNorm (Zhang and Sennrich 2019) with fused residual, a row at a
// time.
//
// Statistics take two passes over the row while it lies in L1. The gradients of weight and bias are
// summed over fixed blocks of rows, then over the blocks in order.
// Cost, n elements: forward reads x (and residual), writes y (and s), about 8 n FLOPs; backward
// reads s and gradY, writes gradS, about 15 n FLOPs.
#include "cpp/ops/dense/norm.h"

#include <algorithm>
#include <cmath>

#include "cpp/cpu/row_math.h"
#include "cpp/cpu/rows.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

// One description for both norms: rmsNorm is not centred and has no bias.
struct Forward {
  const TensorView &x, &residual, &weight, &bias, &y, &sum, &mean, &scale;
  double eps;
  bool centred, unbiased;
};

struct Backward {
  const TensorView &gradY, &gradSum, &s, &weight, &mean, &scale, &gradS, &gradWeight, &gradBias;
  double eps;
  bool centred, unbiased;
};

const TensorView kAbsent{};

template <class A>
A* scratchOf(Context& context) {
  return reinterpret_cast<A*>(context.workspace.data);
}

// A vector of features as an arithmetic row, null where absent.
template <class A>
const A* features(const TensorView& t, A* scratch) {
  return t.defined() ? rowOf(t, 0, t.strideOf(0), t.dim(0), scratch) : nullptr;
}

template <class A>
void forward(const Forward& p, Context& context) {
  const Rows x(p.x);
  const int64_t n = x.length;
  if (x.count == 0 || n == 0) return;
  A* scratch = scratchOf<A>(context);
  const A* weight = features(p.weight, scratch);
  const A* bias = features(p.bias, scratch + n);
  const Rows residual(p.residual.defined() ? p.residual : p.x);
  const A count = static_cast<A>(n), eps = static_cast<A>(p.eps);

  context.pool.forEach((x.count + 7) / 8, [&](int64_t item, int thread) {
    A* own = scratch + (2 + 3 * thread) * n;
    for (int64_t row = item * 8; row < std::min(x.count, item * 8 + 8); ++row) {
      const A* s = rowOf(p.x, x.at(row), x.step, n, own);
      if (p.residual.defined()) {
        const A* r = rowOf(p.residual, residual.at(row), residual.step, n, own + n);
        A* sum = chunkTarget(p.sum, row * n, own + n);
        mapRow<A>(n, sum, [&](auto get) { return get(s) + get(r); });
        storeChunk(p.sum, row * n, n, sum);
        s = rowOf(p.sum, row * n, 1, n, own);
      }
      A* y = chunkTarget(p.y, row * n, own + n);
      A mean = 0;
      if (p.centred) {
        mean = sumRow<A>(n, [&](auto get) { return get(s); }) / count;
        p.mean.data<A>()[row] = mean;
      }
      const A squares = sumRow<A>(n, [&](auto get) {
        const auto d = get(s) - mean;
        return d * d;
      });
      const A scale = p.unbiased ? 1 / (std::sqrt(squares / std::max<A>(count - 1, 1)) + eps)
                                 : 1 / std::sqrt(squares / count + eps);
      p.scale.data<A>()[row] = scale;
      if (weight != nullptr && bias != nullptr) {
        mapRow<A>(n, y,
                  [&](auto get) { return (get(s) - mean) * scale * get(weight) + get(bias); });
      } else if (weight != nullptr) {
        mapRow<A>(n, y, [&](auto get) { return (get(s) - mean) * scale * get(weight); });
      } else {
        mapRow<A>(n, y, [&](auto get) { return (get(s) - mean) * scale; });
      }
      storeChunk(p.y, row * n, n, y);
    }
  });
}

// target[i] = sum over blocks of partial[block][i].
template <class A>
void sumBlocks(const TensorView& target, const A* partial, int64_t blocks, int64_t n,
               ThreadPool& pool) {
  if (!target.defined()) return;
  pool.forRange(n, 256, [&](int64_t begin, int64_t end) {
    A total[256] = {};
    for (int64_t b = 0; b < blocks; ++b) {
      const A* row = partial + b * n + begin;
      mapRow<A>(end - begin, total, [&](auto get) { return get(total) + get(row); });
    }
    storeRow(target, begin, 1, end - begin, total);
  });
}

template <class A>
void backward(const Backward& p, Context& context) {
  const Rows s(p.s), gradY(p.gradY), gradSum(p.gradSum.defined() ? p.gradSum : p.s);
  const int64_t n = s.length;
  const int64_t perBlock = ops::normRowsPerBlock(s.count),
                blocks = (s.count + perBlock - 1) / perBlock;
  const bool sums = p.gradWeight.defined() || p.gradBias.defined();
  A* scratch = scratchOf<A>(context);
  const A* weight = features(p.weight, scratch);
  A* partialWeight = scratch + (2 + 3 * context.pool.size()) * n;
  A* partialBias = partialWeight + blocks * n;
  const A count = static_cast<A>(n);

  const auto oneRow = [&](int64_t row, A* own, A* sumWeight, A* sumBias) {
    const A* x = rowOf(p.s, s.at(row), s.step, n, own);
    const A* g = rowOf(p.gradY, gradY.at(row), gradY.step, n, own + n);
    const A scale = p.scale.data<A>()[row], mean = p.centred ? p.mean.data<A>()[row] : A(0);
    if (sums) {
      mapRow<A>(n, sumWeight,
                [&](auto get) { return get(sumWeight) + get(g) * ((get(x) - mean) * scale); });
      mapRow<A>(n, sumBias, [&](auto get) { return get(sumBias) + get(g); });
    }
    if (!p.gradS.defined()) return;
    A* d = chunkTarget(p.gradS, row * n, own + 2 * n);  // gradY * weight
    if (weight != nullptr) {
      mapRow<A>(n, d, [&](auto get) { return get(g) * get(weight); });
    } else {
      std::copy_n(g, n, d);
    }
    const A along = sumRow<A>(n, [&](auto get) { return get(d) * ((get(x) - mean) * scale); });
    const A level = p.centred ? sumRow<A>(n, [&](auto get) { return get(d); }) / count : A(0);
    A slope = along / count;
    if (p.unbiased) {
      // scale * (deviation + eps) = 1; a constant row has no direction to project out.
      const A deviation = 1 / scale - static_cast<A>(p.eps);
      slope = deviation > 0 && n > 1 ? along / (scale * deviation * (count - 1)) : A(0);
    }
    if (p.gradSum.defined()) {
      // d is complete; the row of gradY is free for the other gradient.
      const A* other = rowOf(p.gradSum, gradSum.at(row), gradSum.step, n, own + n);
      mapRow<A>(n, d, [&](auto get) {
        return (get(d) - level - (get(x) - mean) * scale * slope) * scale + get(other);
      });
    } else {
      mapRow<A>(n, d, [&](auto get) {
        return (get(d) - level - (get(x) - mean) * scale * slope) * scale;
      });
    }
    storeChunk(p.gradS, row * n, n, d);
  };

  if (n == 0) return;
  context.pool.forEach(blocks, [&](int64_t block, int thread) {
    A* sumWeight = partialWeight + block * n;
    A* sumBias = partialBias + block * n;
    if (sums) {
      std::fill_n(sumWeight, n, A(0));
      std::fill_n(sumBias, n, A(0));
    }
    for (int64_t row = block * perBlock; row < std::min(s.count, (block + 1) * perBlock); ++row) {
      oneRow(row, scratch + (2 + 3 * thread) * n, sumWeight, sumBias);
    }
  });
  sumBlocks(p.gradWeight, partialWeight, blocks, n, context.pool);
  sumBlocks(p.gradBias, partialBias, blocks, n, context.pool);
}

}  // namespace

Status layerNorm(const ops::LayerNorm& p, Context& context) {
  const Forward f{p.x,    p.residual, p.weight, p.bias, p.y,       p.sum,
                  p.mean, p.scale,    p.eps,    true,   p.unbiased};
  withAccumulator(p.x.dtype, [&](auto zero) { forward<decltype(zero)>(f, context); });
  return {};
}

Status rmsNorm(const ops::RmsNorm& p, Context& context) {
  const Forward f{p.x,     p.residual, p.weight, kAbsent, p.y,  p.sum,
                  kAbsent, p.scale,    p.eps,    false,   false};
  withAccumulator(p.x.dtype, [&](auto zero) { forward<decltype(zero)>(f, context); });
  return {};
}

Status layerNormBackward(const ops::LayerNormBackward& p, Context& context) {
  const Backward b{p.gradY, p.gradSum,    p.s,        p.weight, p.mean, p.scale,
                   p.gradS, p.gradWeight, p.gradBias, p.eps,    true,   p.unbiased};
  withAccumulator(p.s.dtype, [&](auto zero) { backward<decltype(zero)>(b, context); });
  return {};
}

Status rmsNormBackward(const ops::RmsNormBackward& p, Context& context) {
  const Backward b{p.gradY, p.gradSum,    p.s,     p.weight, kAbsent, p.scale,
                   p.gradS, p.gradWeight, kAbsent, 0,        false,   false};
  withAccumulator(p.s.dtype, [&](auto zero) { backward<decltype(zero)>(b, context); });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
