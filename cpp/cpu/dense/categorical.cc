// Sampling classes by inversion: the first class whose running sum of weights exceeds u times the
// sum. Classes run by index where all take part, else from the largest logit down, equals by index.
// Cost: one pass over the logits and V exponentials; top-k and top-p add selections in linear time.
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
  auto earlier() const {
    return [this](int32_t a, int32_t b) { return before(a, b); };
  }
  double mass(int64_t begin, int64_t end) const {
    double sum = 0;
    for (int64_t i = begin; i < end; ++i) sum += weight(order[i]);
    return sum;
  }
  // How many of the first `count` classes, the largest first, it takes until their mass is
  // `enough`. Halves the range that holds the answer, as quickselect does: nothing is sorted, and
  // the class that completes the mass ends at that place.
  template <class F>
  int64_t reach(int64_t count, F&& enough) {
    int64_t begin = 0, end = count;
    for (double held = 0; end - begin > 1;) {
      const int64_t middle = begin + (end - begin) / 2;
      std::nth_element(order + begin, order + middle, order + end, earlier());
      const double front = mass(begin, middle);
      if (enough(held + front)) {
        end = middle;
      } else {
        held += front;
        begin = middle;
      }
    }
    return end;
  }
};

// The first class by index whose running sum exceeds u times the whole.
int32_t drawByIndex(const Candidates& c, double u) {
  double mass = 0;
  for (int64_t v = 0; v < c.classes; ++v) mass += c.weight(v);
  double held = 0;
  int64_t last = 0;
  for (int64_t v = 0; v < c.classes; ++v) {
    const double w = c.weight(v);
    if (w <= 0) continue;
    held += w;
    last = v;
    if (held > u * mass) break;
  }
  return static_cast<int32_t>(last);
}

int32_t draw(Candidates& c, const ops::Categorical& p, double u) {
  int64_t count = p.topK == 0 ? c.classes : std::min(p.topK, c.classes);
  if (count == c.classes && p.topP >= 1) return drawByIndex(c, u);
  for (int64_t v = 0; v < c.classes; ++v) c.order[v] = static_cast<int32_t>(v);
  if (count < c.classes)
    std::nth_element(c.order, c.order + count, c.order + c.classes, c.earlier());
  double mass = c.mass(0, count);
  if (p.topP < 1) {
    count = c.reach(count, [&](double held) { return held >= p.topP * mass; });
    mass = c.mass(0, count);
  }
  const int64_t drawn = c.reach(count, [&](double held) { return held > u * mass; });
  int32_t last = c.order[drawn - 1];
  // u near 1 and rounding: the last that can be drawn.
  if (c.weight(last) > 0) return last;
  last = *std::min_element(c.order, c.order + count, c.earlier());
  for (int64_t i = 0; i < count; ++i) {
    if (c.weight(c.order[i]) > 0 && c.before(last, c.order[i])) last = c.order[i];
  }
  return last;
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
