// Sums and means. Chunks of 1024 elements are added in f32 vector lanes (at most 16 additions each,
// then pairwise), everything above in f64: the error stays near one rounding of f32 for any length.
// By columns, 64 rows are added in f32, then in f64. Reads each element once.
#include "cpp/ops/dense/reduce.h"

#include "cpp/cpu/chunk.h"
#include "cpp/cpu/reduction.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

template <class A>
double sumArray(const A* x, int64_t n) {
  constexpr int kWide = kLanesOf<A>;
  Vector<A> lanes[4] = {};
  int64_t i = 0;
  for (; i + 4 * kWide <= n; i += 4 * kWide) {
    for (int k = 0; k < 4; ++k) lanes[k] += vload(x + i + k * kWide);
  }
  for (; i + kWide <= n; i += kWide) lanes[0] += vload(x + i);
  double sum = vsum((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
  for (; i < n; ++i) sum += x[i];
  return sum;
}

// Elements [begin, end) of the reduced axes, from position `base`.
template <class A>
double sumRows(const TensorView& x, const Axes& reduced, int64_t base, int64_t begin, int64_t end) {
  Chunk<A> scratch;
  const int64_t inner = reduced.inner(), step = reduced.innerStride();
  double sum = 0;
  for (int64_t i = begin; i < end;) {
    const int64_t column = i % inner;
    const int64_t run = base + reduced.at(i / inner, reduced.rank - 1);
    const int64_t stop = std::min(inner, column + end - i);
    for (int64_t k = column; k < stop; k += kChunk) {
      const int64_t n = std::min(kChunk, stop - k);
      sum += sumArray(loadChunk(x, run + k * step, step, n, scratch.data), n);
    }
    i += stop - column;
  }
  return sum;
}

// Rows [begin, end) of n <= kTile columns from position `base`, into sum.
template <class A>
void sumColumns(const TensorView& x, const Reduction& plan, int64_t base, int64_t begin,
                int64_t end, int64_t n, double* sum) {
  constexpr int64_t kLeaf = 64;
  Chunk<A> scratch;
  alignas(64) A leaf[Reduction::kTile];
  std::fill_n(sum, n, 0.0);
  const int64_t step = plan.kept.innerStride();
  for (int64_t first = begin; first < end; first += kLeaf) {
    std::fill_n(leaf, n, A{0});
    for (int64_t r = first; r < std::min(end, first + kLeaf); ++r) {
      const A* row = loadChunk(x, base + plan.reduced.at(r), step, n, scratch.data);
      for (int64_t c = 0; c < n; ++c) leaf[c] += row[c];
    }
    for (int64_t c = 0; c < n; ++c) sum[c] += leaf[c];
  }
}

double pairwise(const double* x, int64_t n, int64_t step) {
  if (n <= 8) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += x[i * step];
    return sum;
  }
  const int64_t half = n / 2;
  return pairwise(x, half, step) + pairwise(x + half * step, n - half, step);
}

template <class A>
void run(const ops::Reduce& p, Context& context) {
  const Reduction plan(p.x, p.axes);
  const int64_t outputs = plan.outputs(), blocks = plan.blocks, count = plan.reduced.count;
  const double scale = p.kind == ops::ReduceKind::mean ? 1.0 / static_cast<double>(count) : 1.0;
  auto* partials = reinterpret_cast<double*>(context.workspace.data);  // [blocks, outputs]
  ThreadPool& pool = context.pool;
  const auto finish = [&](int64_t output, double sum) {
    if (p.kind == ops::ReduceKind::mean) sum = count > 0 ? sum * scale : __builtin_nan("");
    dispatchAny(p.y.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      if constexpr (std::is_integral_v<T>) {
        p.y.data<T>()[output] = static_cast<T>(static_cast<int64_t>(sum));  // wraps
      } else {
        p.y.data<T>()[output] = store<T>(sum);
      }
    });
  };
  if (plan.byColumns) {
    const int64_t columns = plan.kept.inner(), outer = outputs / std::max<int64_t>(columns, 1);
    const int64_t tiles = (columns + Reduction::kTile - 1) / Reduction::kTile;
    pool.forEach(outer * tiles * blocks, [&](int64_t item, int) {
      const int64_t tile = item % tiles, block = item / tiles % blocks, o = item / (tiles * blocks);
      const int64_t column = tile * Reduction::kTile,
                    n = std::min(Reduction::kTile, columns - column);
      const int64_t base = plan.kept.at(o, plan.kept.rank - 1) + column * plan.kept.innerStride();
      const int64_t begin = block * Reduction::kBlockRows,
                    end = std::min(count, begin + Reduction::kBlockRows);
      alignas(64) double sum[Reduction::kTile];
      sumColumns<A>(p.x, plan, base, begin, end, n, sum);
      const int64_t output = o * columns + column;
      if (blocks > 1) {
        std::copy_n(sum, n, partials + block * outputs + output);
      } else {
        for (int64_t c = 0; c < n; ++c) finish(output + c, sum[c]);
      }
    });
  } else {
    const int64_t perItem = std::max<int64_t>(1, Reduction::kBlock / std::max<int64_t>(count, 1));
    pool.forRange(outputs * blocks, perItem, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t output = item / blocks, block = item % blocks;
        const int64_t from = block * Reduction::kBlock,
                      to = std::min(count, from + Reduction::kBlock);
        const double sum = sumRows<A>(p.x, plan.reduced, plan.kept.at(output), from, to);
        if (blocks > 1) {
          partials[block * outputs + output] = sum;
        } else {
          finish(output, sum);
        }
      }
    });
  }
  if (blocks > 1) {
    pool.forRange(outputs, std::max<int64_t>(1, 4096 / blocks), [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) finish(o, pairwise(partials + o, blocks, outputs));
    });
  }
}

}  // namespace

Status reduce(const ops::Reduce& p, Context& context) {
  withArithmetic(p.x.dtype, [&](auto zero) { run<decltype(zero)>(p, context); });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
