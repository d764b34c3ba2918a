// Maxima and minima with the position of the first extreme element. A chunk's extreme is found in
// vector lanes; only where it beats what came before is the chunk searched for its place. Reads
// each element once.
#include "cpp/ops/dense/extremum.h"

#include "cpp/cpu/chunk.h"
#include "cpp/cpu/reduction.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

struct Best {
  double value;
  int64_t index;
};

template <bool kMax, class A>
LONGSPAN_INLINE bool beats(A x, A best) {
  return (kMax ? x > best : x < best) || (x != x && best == best);
}

// Looks at n elements whose first has number `first`.
template <bool kMax, class A>
void look(const A* x, int64_t n, int64_t first, Best& best) {
  A extreme = x[0];
  bool nan = false;
  if constexpr (std::is_same_v<A, float>) {
    vf lanes = vbroadcast(x[0]);
    vi unordered{};
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      const vf v = vload(x + i);
      unordered |= v != v;
      lanes = kMax ? vmax(lanes, v) : vmin(lanes, v);
    }
    nan = vany(unordered);
    extreme = vreduce(lanes, [](float a, float b) { return (kMax ? a > b : a < b) ? a : b; });
    for (; i < n; ++i) {
      nan |= x[i] != x[i];
      if (kMax ? x[i] > extreme : x[i] < extreme) extreme = x[i];
    }
  } else {
    for (int64_t i = 0; i < n; ++i) {
      nan |= x[i] != x[i];
      if (kMax ? x[i] > extreme : x[i] < extreme) extreme = x[i];
    }
  }
  if (!nan && best.index >= 0 && !beats<kMax>(static_cast<double>(extreme), best.value)) return;
  if (nan && best.index >= 0 && best.value != best.value) return;
  const auto found = [&](auto v) { return nan ? v != v : v == extreme; };
  int64_t i = 0;
  if constexpr (std::is_same_v<A, float>) {
    while (i + kLanes <= n && !vany(found(vload(x + i)))) i += kLanes;
  }
  while (i < n && !found(x[i])) ++i;
  if (i < n) best = {static_cast<double>(x[i]), first + i};
}

template <bool kMax, class A>
Best lookRows(const TensorView& x, const Axes& reduced, int64_t base, int64_t begin, int64_t end) {
  Chunk<A> scratch;
  const int64_t inner = reduced.inner(), step = reduced.innerStride();
  Best best{0, -1};
  for (int64_t i = begin; i < end;) {
    const int64_t column = i % inner;
    const int64_t run = base + reduced.at(i / inner, reduced.rank - 1);
    const int64_t stop = std::min(inner, column + end - i);
    for (int64_t k = column; k < stop; k += kChunk) {
      const int64_t n = std::min(kChunk, stop - k);
      look<kMax>(loadChunk(x, run + k * step, step, n, scratch.data), n, i + k - column, best);
    }
    i += stop - column;
  }
  return best;
}

template <bool kMax, class A>
void lookColumns(const TensorView& x, const Reduction& plan, int64_t base, int64_t begin,
                 int64_t end, int64_t n, A* value, int32_t* index) {
  Chunk<A> scratch;
  const int64_t step = plan.kept.innerStride();
  for (int64_t r = begin; r < end; ++r) {
    const A* row = loadChunk(x, base + plan.reduced.at(r), step, n, scratch.data);
    if (r == begin) {
      std::copy_n(row, n, value);
      std::fill_n(index, n, static_cast<int32_t>(r));
      continue;
    }
    for (int64_t c = 0; c < n; ++c) {
      const bool better = beats<kMax>(row[c], value[c]);
      value[c] = better ? row[c] : value[c];
      index[c] = better ? static_cast<int32_t>(r) : index[c];
    }
  }
}

template <bool kMax, class A>
void run(const ops::Extremum& p, Context& context) {
  const Reduction plan(p.x, p.axes);
  const int64_t outputs = plan.outputs(), blocks = plan.blocks, count = plan.reduced.count;
  auto* values = reinterpret_cast<double*>(context.workspace.data);  // [blocks, outputs]
  auto* indices = reinterpret_cast<int32_t*>(values + plan.partials());
  ThreadPool& pool = context.pool;
  const auto finish = [&](int64_t output, Best best) {
    if (p.wantIndex) p.index.data<int32_t>()[output] = static_cast<int32_t>(best.index);
    if (!p.wantValue) return;
    dispatchAny(p.y.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      p.y.data<T>()[output] = store<T>(best.value);
    });
  };
  const auto keep = [&](int64_t block, int64_t output, Best best) {
    if (blocks == 1) return finish(output, best);
    values[block * outputs + output] = best.value;
    indices[block * outputs + output] = static_cast<int32_t>(best.index);
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
      alignas(64) A value[Reduction::kTile];
      alignas(64) int32_t index[Reduction::kTile];
      lookColumns<kMax>(p.x, plan, base, begin, end, n, value, index);
      for (int64_t c = 0; c < n; ++c) {
        keep(block, o * columns + column + c, {static_cast<double>(value[c]), index[c]});
      }
    });
  } else {
    const int64_t perItem = std::max<int64_t>(1, Reduction::kBlock / count);
    pool.forRange(outputs * blocks, perItem, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t output = item / blocks, block = item % blocks;
        const int64_t from = block * Reduction::kBlock,
                      to = std::min(count, from + Reduction::kBlock);
        keep(block, output, lookRows<kMax, A>(p.x, plan.reduced, plan.kept.at(output), from, to));
      }
    });
  }
  if (blocks == 1) return;
  pool.forRange(outputs, std::max<int64_t>(1, 4096 / blocks), [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      Best best{values[o], indices[o]};
      for (int64_t b = 1; b < blocks; ++b) {
        const int64_t at = b * outputs + o;
        if (beats<kMax>(values[at], best.value)) best = {values[at], indices[at]};
      }
      finish(o, best);
    }
  });
}

}  // namespace

Status extremum(const ops::Extremum& p, Context& context) {
  withArithmetic(p.x.dtype, [&](auto zero) {
    using A = decltype(zero);
    if (p.kind == ops::ExtremumKind::max) {
      run<true, A>(p, context);
    } else {
      run<false, A>(p, context);
    }
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
