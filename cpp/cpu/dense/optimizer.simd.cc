// Optimizer updates: all tensors are cut into pieces of 16384 elements, which the pool draws from
// one queue, each worked through in tiles that stay in L1. Cost per element: Adam reads 4 and
// writes 3 numbers, about 12 FLOPs with a root and a division; SGD with momentum reads 3, writes 2;
// the norm reads 1. All are bound by memory.
#include "cpp/ops/dense/optimizer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpp/cpu/row_math.h"
#include "cpp/cpu/rows.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int64_t kTile = 512;

std::vector<Elements> elementsOf(const TensorList& list) { return {list.begin(), list.end()}; }

double numberOf(const TensorView& t, double absent) {
  if (!t.defined()) return absent;
  if (t.dtype == DType::i32) return *t.data<int32_t>();
  double x;
  loadRow(t, 0, 1, 1, &x);
  return x;
}

// body(tensor, first, count, piece) for every piece of every tensor.
template <class F>
void forPieces(const TensorList& list, ThreadPool& pool, F&& body) {
  std::vector<int64_t> start(list.size() + 1, 0);
  for (size_t i = 0; i < list.size(); ++i) {
    start[i + 1] = start[i] + (list[i].numel() + ops::kOptimizerPiece - 1) / ops::kOptimizerPiece;
  }
  pool.forEach(start.back(), [&](int64_t piece, int) {
    const size_t i =
        static_cast<size_t>(std::upper_bound(start.begin(), start.end(), piece) - start.begin()) -
        1;
    const int64_t first = (piece - start[i]) * ops::kOptimizerPiece;
    body(i, first, std::min(ops::kOptimizerPiece, list[i].numel() - first), piece);
  });
}

// body(tensor, first, count, A{}) for every tile, A being the arithmetic of its tensor.
template <class F>
void forTiles(const TensorList& list, ThreadPool& pool, F&& body) {
  forPieces(list, pool, [&](size_t i, int64_t first, int64_t count, int64_t) {
    withAccumulator(list[i].dtype, [&](auto zero) {
      for (int64_t done = 0; done < count; done += kTile) {
        body(i, first + done, std::min(kTile, count - done), zero);
      }
    });
  });
}

// Where a parameter is read from, and both places it is written to.
struct Targets {
  std::vector<Elements> params, masters;
  Targets(const TensorList& p, const TensorList& m)
      : params(elementsOf(p)), masters(elementsOf(m)) {}

  template <class A>
  A* open(size_t i, int64_t first, int64_t n, A* scratch) const {
    return (masters.empty() ? params : masters)[i].open(first, n, scratch);
  }
  template <class A>
  void close(size_t i, int64_t first, int64_t n, const A* x, const A* scratch) const {
    if (!masters.empty()) {
      masters[i].close(first, n, x, scratch);
      params[i].store(first, n, x);
    } else {
      params[i].close(first, n, x, scratch);
    }
  }
};

}  // namespace

Status adamStep(const ops::AdamStep& p, Context& context) {
  if (numberOf(p.skip, 0) != 0) return {};
  const int32_t t = ++*p.step.data<int32_t>();
  const double lr = numberOf(p.lr, 0), gradScale = numberOf(p.gradScale, 1);
  const double rate = lr / (1 - std::pow(p.beta1, t));
  const double rootOfCorrection = std::sqrt(1 - std::pow(p.beta2, t));
  const Targets targets(p.params, p.masters);
  const auto grads = elementsOf(p.grads), means = elementsOf(p.means),
             squares = elementsOf(p.squares), maxima = elementsOf(p.maxSquares);

  forTiles(p.params, context.pool, [&](size_t i, int64_t first, int64_t n, auto zero) {
    using A = decltype(zero);
    A g[kTile], forX[kTile], forM[kTile], forS[kTile], forTop[kTile];
    A* x = targets.open(i, first, n, forX);
    A* m = means[i].open(first, n, forM);
    A* s = squares[i].open(first, n, forS);
    grads[i].load(first, n, g);
    const A scale = static_cast<A>(gradScale),
            shrink = static_cast<A>(p.decoupled ? 1 - lr * p.weightDecay : 1),
            decay = static_cast<A>(p.decoupled ? 0 : p.weightDecay);
    const A b1 = static_cast<A>(p.beta1), c1 = static_cast<A>(1 - p.beta1);
    const A b2 = static_cast<A>(p.beta2), c2 = static_cast<A>(1 - p.beta2);
    const A unroot = static_cast<A>(1 / rootOfCorrection), eps = static_cast<A>(p.eps),
            step = static_cast<A>(rate);
    mapRow<A>(n, g, [&](auto get) { return get(g) * scale + get(x) * decay; });
    mapRow<A>(n, m, [&](auto get) { return get(m) * b1 + get(g) * c1; });
    mapRow<A>(n, s, [&](auto get) { return get(s) * b2 + get(g) * get(g) * c2; });
    const A* square = s;
    if (!maxima.empty()) {
      A* top = maxima[i].open(first, n, forTop);
      mapRow<A>(n, top, [&](auto get) { return vmax(get(top), get(s)); });
      maxima[i].close(first, n, top, forTop);
      square = top;
    }
    mapRow<A>(n, x, [&](auto get) {
      return get(x) * shrink - step * get(m) / (vsqrt(get(square)) * unroot + eps);
    });
    targets.close(i, first, n, x, forX);
    means[i].close(first, n, m, forM);
    squares[i].close(first, n, s, forS);
  });
  return {};
}

Status sgdStep(const ops::SgdStep& p, Context& context) {
  if (numberOf(p.skip, 0) != 0) return {};
  const bool first = (*p.step.data<int32_t>())++ == 0;
  const double lr = numberOf(p.lr, 0), gradScale = numberOf(p.gradScale, 1);
  const Targets targets(p.params, p.masters);
  const auto grads = elementsOf(p.grads), buffers = elementsOf(p.buffers);

  forTiles(p.params, context.pool, [&](size_t i, int64_t at, int64_t n, auto zero) {
    using A = decltype(zero);
    A g[kTile], b[kTile], forX[kTile];
    A* x = targets.open(i, at, n, forX);
    grads[i].load(at, n, g);
    const A scale = static_cast<A>(gradScale), decay = static_cast<A>(p.weightDecay),
            rate = static_cast<A>(lr);
    mapRow<A>(n, g, [&](auto get) { return get(g) * scale + get(x) * decay; });
    if (!buffers.empty()) {
      const A momentum = static_cast<A>(p.momentum), fresh = static_cast<A>(1 - p.dampening);
      if (first) {
        std::copy_n(g, n, b);
      } else {
        buffers[i].load(at, n, b);
        mapRow<A>(n, b, [&](auto get) { return get(b) * momentum + get(g) * fresh; });
      }
      buffers[i].store(at, n, b);
      if (p.nesterov) {
        mapRow<A>(n, g, [&](auto get) { return get(g) + get(b) * momentum; });
      } else {
        std::copy_n(b, n, g);
      }
    }
    mapRow<A>(n, x, [&](auto get) { return get(x) - get(g) * rate; });
    targets.close(i, at, n, x, forX);
  });
  return {};
}

Status gradNorm(const ops::GradNorm& p, Context& context) {
  auto* partial =
      reinterpret_cast<double*>(context.workspace.data);  // sum of squares, largest magnitude
  const auto tensors = elementsOf(p.tensors);
  forPieces(p.tensors, context.pool, [&](size_t i, int64_t first, int64_t count, int64_t piece) {
    double squares = 0, most = 0, x[kTile];
    for (int64_t done = 0; done < count; done += kTile) {
      const int64_t n = std::min(kTile, count - done);
      tensors[i].load(first + done, n, x);
      squares += sumRow<double>(n, [&](auto get) { return get(x) * get(x); });
      if (!p.largest) continue;
      mapRow<double>(n, x, [&](auto get) { return vabs(get(x)); });
      most = std::max(most, maxRow(n, x));
    }
    partial[2 * piece] = squares;
    partial[2 * piece + 1] = most;
  });
  double squares = 0, most = 0;
  for (int64_t piece = 0; piece < ops::optimizerPieces(p.tensors); ++piece) {
    squares += partial[2 * piece];
    most = std::max(most, partial[2 * piece + 1]);
  }
  // A maximum passes over NaN; the sum of squares does not.
  const double norm = std::isnan(squares) ? squares : p.largest ? most : std::sqrt(squares);
  const double scaled = norm * std::abs(numberOf(p.scale, 1));
  storeRow(p.norm, 0, 1, 1, &scaled);
  *p.nonFinite.data<float>() = std::isfinite(squares) ? 0.0f : 1.0f;
  return {};
}

Status clipCoefficient(const ops::ClipCoefficient& p, Context&) {
  const double ratio = p.maxNorm / (numberOf(p.norm, 0) + 1e-6);
  const double coefficient = (ratio > 1 ? 1 : ratio) * numberOf(p.scale, 1);
  storeRow(p.coefficient, 0, 1, 1, &coefficient);
  return {};
}

Status scaleTensors(const ops::ScaleTensors& p, Context& context) {
  const auto tensors = elementsOf(p.tensors);
  const double factor = numberOf(p.factor, 1);
  forTiles(p.tensors, context.pool, [&](size_t i, int64_t first, int64_t n, auto zero) {
    using A = decltype(zero);
    A scratch[kTile];
    A* x = tensors[i].open(first, n, scratch);
    const A by = static_cast<A>(factor);
    mapRow<A>(n, x, [&](auto get) { return get(x) * by; });
    tensors[i].close(first, n, x, scratch);
  });
  return {};
}

Status clampTensors(const ops::ClampTensors& p, Context& context) {
  const auto tensors = elementsOf(p.tensors);
  forTiles(p.tensors, context.pool, [&](size_t i, int64_t first, int64_t n, auto zero) {
    using A = decltype(zero);
    A x[kTile];
    tensors[i].load(first, n, x);
    const A limit = static_cast<A>(p.limit);
    for (int64_t k = 0; k < n; ++k) x[k] = x[k] > limit ? limit : x[k] < -limit ? -limit : x[k];
    tensors[i].store(first, n, x);
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
