// Softmax and its logarithm, a row at a time: maximum, exponentials and their sum, scaling.
// Cost, n elements: one read, one write, n exponentials; backward two reads, one write.
#include "cpp/ops/dense/softmax.h"

#include <algorithm>
#include <cmath>

#include "cpp/cpu/row_math.h"
#include "cpp/cpu/rows.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

// Calls row(index, own) for every row, `own` being the thread's two rows of scratch.
template <class A, class F>
void forRows(int64_t count, int64_t n, Context& context, F&& body) {
  if (n == 0) return;
  auto* scratch = reinterpret_cast<A*>(context.workspace.data);
  const int64_t group = std::max<int64_t>(1, 4096 / n);
  context.pool.forEach((count + group - 1) / group, [&](int64_t item, int thread) {
    for (int64_t row = item * group; row < std::min(count, (item + 1) * group); ++row) {
      body(row, scratch + 2 * n * thread);
    }
  });
}

template <class A>
void forward(const ops::SoftmaxFields& p, bool logarithm, Context& context) {
  const Rows x(p.x, static_cast<int>(p.axis)), y(p.y, static_cast<int>(p.axis));
  const int64_t n = x.length;
  constexpr A infinity = std::numeric_limits<A>::infinity();
  forRows<A>(x.count, n, context, [&](int64_t row, A* own) {
    const A* from = rowOf(p.x, x.at(row), x.step, n, own);
    A* to = chunkTarget(p.y, y.at(row), own + n, y.step);
    A top = maxRow(n, from);
    if (top == -infinity) {
      // Nothing is visible, unless it is NaN that the maximum passed over.
      if (!std::isnan(sumRow<A>(n, [&](auto get) { return get(from); }))) {
        std::fill_n(to, n, logarithm ? -infinity : A(0));
        return storeChunk(p.y, y.at(row), n, to, y.step);
      }
      top = 0;
    }
    const auto exponential = [&](auto get) { return vexp(get(from) - top); };
    if (logarithm) {
      const A logSum = std::log(sumRow<A>(n, exponential));
      mapRow<A>(n, to, [&](auto get) { return get(from) - top - logSum; });
    } else {
      const A share = 1 / mapAndSumRow<A>(n, to, exponential);
      mapRow<A>(n, to, [&](auto get) { return get(to) * share; });
    }
    storeChunk(p.y, y.at(row), n, to, y.step);
  });
}

template <class A>
void backward(const ops::SoftmaxBackwardFields& p, bool logarithm, Context& context) {
  const int axis = static_cast<int>(p.axis);
  const Rows g(p.gradY, axis), y(p.y, axis), gradX(p.gradX, axis);
  const int64_t n = y.length;
  forRows<A>(y.count, n, context, [&](int64_t row, A* own) {
    const A* out = rowOf(p.y, y.at(row), y.step, n, own);
    const A* grad = rowOf(p.gradY, g.at(row), g.step, n, own + n);
    A* to = chunkTarget(p.gradX, gradX.at(row), own + n, gradX.step);
    if (!logarithm) {
      const A dot = sumRow<A>(n, [&](auto get) { return get(grad) * get(out); });
      mapRow<A>(n, to, [&](auto get) { return get(out) * (get(grad) - dot); });
    } else if (maxRow(n, out) == -std::numeric_limits<A>::infinity()) {
      std::fill_n(to, n, A(0));
    } else {
      const A total = sumRow<A>(n, [&](auto get) { return get(grad); });
      mapRow<A>(n, to, [&](auto get) { return get(grad) - vexp(get(out)) * total; });
    }
    storeChunk(p.gradX, gradX.at(row), n, to, gradX.step);
  });
}

}  // namespace

Status softmax(const ops::Softmax& p, Context& context) {
  withAccumulator(p.x.dtype, [&](auto zero) { forward<decltype(zero)>(p, false, context); });
  return {};
}

Status logSoftmax(const ops::LogSoftmax& p, Context& context) {
  withAccumulator(p.x.dtype, [&](auto zero) { forward<decltype(zero)>(p, true, context); });
  return {};
}

Status softmaxBackward(const ops::SoftmaxBackward& p, Context& context) {
  withAccumulator(p.y.dtype, [&](auto zero) { backward<decltype(zero)>(p, false, context); });
  return {};
}

Status logSoftmaxBackward(const ops::LogSoftmaxBackward& p, Context& context) {
  withAccumulator(p.y.dtype, [&](auto zero) { backward<decltype(zero)>(p, true, context); });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
