// Sampling classes by inversion: the first class whose running sum of weights exceeds u times the
// sum. Classes run by index where all take part, else from the largest logit down, equals by index.
// Cost: one pass over the logits and V exponentials; top-k and top-p add a selection.
#include "cpp/ops/dense/categorical.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "cpp/core/half.h"
#include "cpp/core/philox.h"
#include "cpp/cpu/rows.h"

namespace longspan::cpu {
namespace {

// One row at work: logits in f64 and the order of those taken.
struct Candidates {
  double* logits;
  int32_t* order;
  int64_t classes;
  double top;          // largest logit
  double temperature;  // above 0

  double weight(int64_t v) const { return std::exp((logits[v] - top) / temperature); }

  bool before(int32_t a, int32_t b) const {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  }
  // Puts the `count` largest to the front of the order, sorted.
  void select(int64_t count) {
    const auto earlier = [this](int32_t a, int32_t b) { return before(a, b); };
    if (count < classes / 64)
      return std::partial_sort(order, order + count, order + classes, earlier);
    if (count < classes) std::nth_element(order, order + count, order + classes, earlier);
    std::sort(order, order + count, earlier);
  }
};

// How many of the largest hold the share topP of the mass of the `limit` largest. Sorts only as
// many as that takes.
int64_t nucleus(Candidates& c, int64_t limit, double topP) {
  double mass = 0;
  if (limit < c.classes) {
    c.select(limit);
    for (int64_t i = 0; i < limit; ++i) mass += c.weight(c.order[i]);
  } else {
    for (int64_t v = 0; v < c.classes; ++v) mass += c.weight(v);
  }
  if (topP >= 1) return limit;
  for (int64_t sorted = std::min<int64_t>(limit, 64);; sorted = std::min(limit, 8 * sorted)) {
    if (limit == c.classes) c.select(sorted);
    double held = 0;
    for (int64_t i = 0; i < sorted; ++i) {
      held += c.weight(c.order[i]);
      if (held >= topP * mass) return i + 1;
    }
    if (sorted == limit) return limit;
  }
}

// The first of `count` classes whose running sum exceeds u times the whole.
template <class F>
int32_t invert(const Candidates& c, int64_t count, double u, F&& classAt) {
  double mass = 0;
  for (int64_t i = 0; i < count; ++i) mass += c.weight(classAt(i));
  double held = 0;
  int32_t last = classAt(0);
  for (int64_t i = 0; i < count; ++i) {
    const double w = c.weight(classAt(i));
    if (w <= 0) continue;
    held += w;
    last = classAt(i);
    if (held > u * mass) break;
  }
  return last;
}

int32_t draw(Candidates& c, const ops::Categorical& p, double u) {
  const int64_t limit = p.topK == 0 ? c.classes : std::min(p.topK, c.classes);
  if (limit == c.classes && p.topP >= 1) {
    return invert(c, c.classes, u, [](int64_t i) { return static_cast<int32_t>(i); });
  }
  for (int64_t v = 0; v < c.classes; ++v) c.order[v] = static_cast<int32_t>(v);
  const int64_t count = nucleus(c, limit, p.topP);
  return invert(c, count, u, [&](int64_t i) { return c.order[i]; });
}

// [0, 1) with 53 bits.
double uniformOf(const PhiloxBlock& block) {
  return (static_cast<double>(block.word[0] >> 5) * 0x1p26 +
          static_cast<double>(block.word[1] >> 6)) *
         0x1p-53;
}

Status unusable(const TensorView& logits, int64_t row) {
  const Rows rows(logits);
  double worst = -std::numeric_limits<double>::infinity();
  int64_t at = -1;
  dispatchFloating(logits.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t v = 0; v < rows.length && at < 0; ++v) {
      const double x = load(logits.data<T>()[rows.at(row) + v * rows.step]);
      if (!(x <= std::numeric_limits<double>::max())) {
        worst = x;
        at = v;
      }
    }
  });
  const std::string where = "row " + std::to_string(row);
  if (at < 0) {
    return Status(Code::failed, "logits", where + " is -Infinity everywhere",
                  "Leave at least one class that can be drawn");
  }
  return Status(
      Code::failed, "logits",
      where + " is " + (std::isnan(worst) ? "NaN" : "Infinity") + " at class " + std::to_string(at),
      "Logits must be finite, or -Infinity for what must not be drawn; look where the model became "
      "non-finite");
}

}  // namespace

Status categorical(const ops::Categorical& p, Context& context) {
  const Rows rows(p.logits);
  const int64_t classes = rows.length;
  const PhiloxState state = loadPhilox(p.state.data<int32_t>());
  auto* scratch = reinterpret_cast<double*>(context.workspace.data);
  std::atomic<int64_t> bad{std::numeric_limits<int64_t>::max()};

  context.pool.forEach(rows.count, [&](int64_t row, int thread) {
    double* logits = scratch + 2 * classes * thread;
    Candidates c{logits, reinterpret_cast<int32_t*>(logits + classes), classes, 0, p.temperature};
    dispatchFloating(p.logits.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const T* from = p.logits.data<T>() + rows.at(row);
      for (int64_t v = 0; v < classes; ++v) logits[v] = load(from[v * rows.step]);
    });
    int64_t best = 0;
    bool usable = true;
    for (int64_t v = 0; v < classes; ++v) {
      usable =
          usable && logits[v] <= std::numeric_limits<double>::max();  // neither NaN nor infinity
      if (logits[v] > logits[best]) best = v;
    }
    c.top = logits[best];
    if (!usable || c.top == -std::numeric_limits<double>::infinity()) {
      for (int64_t seen = bad.load(); row < seen && !bad.compare_exchange_weak(seen, row);) {
      }
      return;
    }
    p.ids.data<int32_t>()[row] =
        p.temperature == 0 || p.topK == 1
            ? static_cast<int32_t>(best)
            : draw(c, p, uniformOf(philox(state, static_cast<uint64_t>(row))));
  });
  if (bad.load() < rows.count) return unusable(p.logits, bad.load());
  return {};
}

}  // namespace longspan::cpu
