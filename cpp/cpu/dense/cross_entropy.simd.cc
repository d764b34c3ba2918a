// Cross entropy in one pass over the logits: maximum and sum of exponentials are carried along and
// rescaled when the maximum grows (Milakov and Gimelshein 2018). Probabilities are never stored:
// backward recomputes them from lse.
// Cost, R rows of V: forward reads R V, backward reads and writes R V; one exponential each.
#include "cpp/ops/dense/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "cpp/cpu/row_math.h"
#include "cpp/cpu/rows.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int64_t kClasses = 1024;  // classes converted at a time, on the stack

int64_t rowsPerItem(int64_t classes) { return std::max<int64_t>(1, 8192 / classes); }

// "[2, 5]" for row 17 of targets [.., 12].
std::string positionOf(const TensorView& t, int64_t row) {
  std::string text;
  for (int i = t.rank - 1; i >= 0; --i) {
    const std::string index = std::to_string(row % t.shape[i]);
    text = text.empty() ? index : index + ", " + text;
    row /= t.shape[i];
  }
  return "[" + text + "]";
}

Status checkTargets(const TensorView& targets, int64_t ignoreIndex, int64_t classes) {
  const Rows rows(targets);
  const auto* base = targets.data<int32_t>();
  for (int64_t row = 0; row < targets.numel(); ++row) {
    const int32_t t = base[rows.at(row / rows.length) + row % rows.length * rows.step];
    if ((t >= 0 && t < classes) || t == ignoreIndex) continue;
    return Status(Code::failed, "targets",
                  "element " + positionOf(targets, row) + " is " + std::to_string(t),
                  "Use classes from 0 to " + std::to_string(classes - 1) + ", or ignoreIndex, " +
                      std::to_string(ignoreIndex) + ", for what must not count");
  }
  return {};
}

int64_t targetOf(const TensorView& targets, const Rows& rows, int64_t row) {
  return targets.data<int32_t>()[rows.at(row / rows.length) + row % rows.length * rows.step];
}

template <class A>
A elementOf(const TensorView& t, int64_t at) {
  A x;
  loadRow(t, at, 1, 1, &x);
  return x;
}

// Largest logit, sum of exp(x - shift) and, when wanted, the plain sum.
template <class A>
struct Online {
  A top = -std::numeric_limits<A>::infinity();
  A shift = 0, sum = 0, plain = 0;

  void add(const A* x, int64_t n, bool wantPlain) {
    const A most = maxRow(n, x);
    if (most > top) {
      if (top > -std::numeric_limits<A>::infinity()) sum *= std::exp(top - most);
      top = shift = most;
    }
    const A base = shift;
    sum += sumRow<A>(n, [&](auto get) { return vexp(get(x) - base); });
    if (wantPlain) plain += sumRow<A>(n, [&](auto get) { return get(x); });
  }
  A lse() const { return shift + std::log(sum); }
};

template <class A>
void forward(const ops::CrossEntropy& p, Context& context) {
  const Rows logits(p.logits), targets(p.targets);
  const int64_t classes = logits.length, rows = p.targets.numel();
  const auto q = ops::wantedDistribution(p.smoothing, p.over, p.ignoreIndex, classes);
  const A everywhere = static_cast<A>(q.everywhere), onTarget = static_cast<A>(q.onTarget),
          onIgnored = static_cast<A>(q.onIgnored), entropy = static_cast<A>(q.entropy),
          zLoss = static_cast<A>(p.zLoss);
  A* lse = p.lse.data<A>();
  A* losses = p.reduction == ops::Reduction::none ? p.loss.data<A>()
                                                  : reinterpret_cast<A*>(context.workspace.data);

  context.pool.forRange(rows, rowsPerItem(classes), [&](int64_t begin, int64_t end) {
    A scratch[kClasses];
    for (int64_t row = begin; row < end; ++row) {
      const int64_t target = targetOf(p.targets, targets, row);
      const int64_t at = logits.at(row);
      if (target == p.ignoreIndex) {
        lse[row] = losses[row] = 0;
        continue;
      }
      Online<A> online;
      for (int64_t first = 0; first < classes; first += kClasses) {
        const int64_t n = std::min(kClasses, classes - first);
        online.add(rowOf(p.logits, at + first * logits.step, logits.step, n, scratch), n,
                   everywhere != 0);
      }
      const A log = lse[row] = online.lse();
      A loss = entropy + log - onTarget * elementOf<A>(p.logits, at + target * logits.step) +
               zLoss * log * log;
      if (everywhere != 0) loss -= everywhere * online.plain;
      if (onIgnored != 0)
        loss -= onIgnored * elementOf<A>(p.logits, at + p.ignoreIndex * logits.step);
      losses[row] = loss;
    }
  });

  // In order and in f64, so that neither threads nor length matter.
  double total = 0;
  int64_t counted = 0;
  for (int64_t row = 0; row < rows; ++row) {
    if (targetOf(p.targets, targets, row) == p.ignoreIndex) continue;
    total += losses[row];
    ++counted;
  }
  *p.count.data<A>() = static_cast<A>(counted);
  if (p.reduction == ops::Reduction::mean)
    total /= static_cast<double>(std::max<int64_t>(counted, 1));
  if (p.reduction != ops::Reduction::none) *p.loss.data<A>() = static_cast<A>(total);
}

template <class A>
void backward(const ops::CrossEntropyBackward& p, Context& context) {
  const Rows logits(p.logits), targets(p.targets), gradLoss(p.gradLoss);
  const int64_t classes = logits.length, rows = p.targets.numel();
  const auto q = ops::wantedDistribution(p.smoothing, p.over, p.ignoreIndex, classes);
  const A* lse = p.lse.data<A>();
  const A* upstream = p.gradLoss.data<A>();
  A share = 1;
  if (p.reduction == ops::Reduction::mean) share = 1 / std::max<A>(*p.count.data<A>(), 1);

  context.pool.forRange(rows, rowsPerItem(classes), [&](int64_t begin, int64_t end) {
    A scratch[kClasses], rounded[kClasses];
    for (int64_t row = begin; row < end; ++row) {
      const int64_t target = targetOf(p.targets, targets, row);
      const bool counts = target != p.ignoreIndex;
      const int64_t position =
          p.reduction == ops::Reduction::none
              ? gradLoss.at(row / gradLoss.length) + row % gradLoss.length * gradLoss.step
              : 0;
      const A scale = share * upstream[position], log = lse[row];
      const A slope = scale * (1 + 2 * static_cast<A>(p.zLoss) * log);
      const A everywhere = scale * static_cast<A>(q.everywhere);
      for (int64_t first = 0; first < classes; first += kClasses) {
        const int64_t n = std::min(kClasses, classes - first);
        A* grad = chunkTarget(p.gradLogits, row * classes + first, rounded);
        if (counts) {
          const A* x =
              rowOf(p.logits, logits.at(row) + first * logits.step, logits.step, n, scratch);
          mapRow<A>(n, grad, [&](auto get) { return vexp(get(x) - log) * slope - everywhere; });
          const auto add = [&](int64_t column, double weight) {
            if (column >= first && column < first + n)
              grad[column - first] -= scale * static_cast<A>(weight);
          };
          add(target, q.onTarget);
          if (q.onIgnored != 0) add(p.ignoreIndex, q.onIgnored);
        } else {
          std::fill_n(grad, n, A(0));
        }
        storeChunk(p.gradLogits, row * classes + first, n, grad);
      }
    }
  });
}

}  // namespace

Status crossEntropy(const ops::CrossEntropy& p, Context& context) {
  LONGSPAN_RETURN_IF_ERROR(checkTargets(p.targets, p.ignoreIndex, p.logits.dim(-1)));
  withAccumulator(p.logits.dtype, [&](auto zero) { forward<decltype(zero)>(p, context); });
  return {};
}

Status crossEntropyBackward(const ops::CrossEntropyBackward& p, Context& context) {
  withAccumulator(p.logits.dtype, [&](auto zero) { backward<decltype(zero)>(p, context); });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
