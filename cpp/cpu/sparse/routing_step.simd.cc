// A head per item, its tokens one after another; each is a row of sorted attention (sorted_row.h)
// over the ring of its cluster, so that a step's bits are those of the parallel form. The window's
// rows are read once, 2 W (D + Dv) FLOPs a token.
#include "cpp/ops/sparse/routing_step.h"

#include "cpp/cpu/element.h"
#include "cpp/cpu/sparse/sorted_row.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

// Copies token t of head (b, h) to a slot of a ring.
void keepToken(const TensorView& from, int64_t b, int64_t h, int64_t t, const TensorView& ring,
               int64_t slot) {
  const int64_t at = b * from.stride[0] + h * from.stride[1] + t * from.stride[2],
                n = from.shape[3];
  withElement(from.dtype, [&](auto tag) {
    using U = typename decltype(tag)::type;
    const U* source = from.data<U>() + at;
    U* target = ring.data<U>() + slot * n;
    for (int64_t d = 0; d < n; ++d) target[d] = source[d * from.stride[3]];
  });
}

// Takes token t of head (b, h) in, and gives what it then sees.
template <class Row>
void routeToken(const ops::RoutingStep& p, const ops::SortedAttentionProblem& problem,
                const SortedTerms& terms, const TensorView& keys, const TensorView& values,
                int64_t b, int64_t h, int64_t t, Row& row) {
  const int64_t line = b * p.q.shape[1] + h, at = line * p.q.shape[2] + t;
  const int64_t clusters = p.clusters(), window = p.window();
  const auto inside = [=](int64_t cluster) { return cluster >= 0 && cluster < clusters; };
  int32_t* counts = p.counts.data<int32_t>() + line * clusters;
  const int64_t keyCluster = p.keyClusters.data<int32_t>()[at],
                cluster = p.queryClusters.data<int32_t>()[at];
  if (inside(keyCluster)) {
    const int64_t slot = (line * clusters + keyCluster) * window + counts[keyCluster]++ % window;
    keepToken(p.k, b, h, t, p.keys, slot);
    keepToken(p.v, b, h, t, p.values, slot);
  }
  row.start(p.q, b, h, t);
  if (inside(cluster)) {
    const int64_t count = counts[cluster];
    row.round(
        terms, problem, keys, values, Places{std::max<int64_t>(0, count - window), count},
        keyCluster == cluster ? count - 1 : -1,
        [&](int64_t rank) { return cluster * window + rank % window; }, [](int64_t) { return 1; });
  }
  row.finish(p.o);
}

int64_t rowFloats(const ops::RoutingStep& p) {
  return dispatchRow(p.q.dtype, [&](auto* row) {
    return std::remove_pointer_t<decltype(row)>::floats(p.q.shape[3], p.v.shape[3]);
  });
}

}  // namespace

size_t routingStepWorkspace(const ops::RoutingStep& p, int threads) {
  return static_cast<size_t>(threads * rowFloats(p)) * sizeof(float);
}

Status routingStep(const ops::RoutingStep& p, Context& context) {
  const int64_t heads = p.q.shape[1], tokens = p.q.shape[2];
  const ops::SortedAttentionProblem problem = stepProblem(1, p.scale, p.lastResort, p.selfPenalty);
  const SortedTerms terms(problem);
  const TensorView keys = ops::RoutingStep::slotRows(p.keys),
                   values = ops::RoutingStep::slotRows(p.values);
  const int64_t floats = rowFloats(p);
  dispatchRow(p.q.dtype, [&](auto* type) {
    using Row = std::remove_pointer_t<decltype(type)>;
    context.pool.forEach(p.q.shape[0] * heads, [&](int64_t line, int thread) {
      Scratch scratch{reinterpret_cast<float*>(context.workspace.data) + thread * floats};
      Row row(scratch, p.q.shape[3], p.v.shape[3]);
      for (int64_t t = 0; t < tokens; ++t) {
        routeToken(p, problem, terms, keys, values, line / heads, line % heads, t, row);
      }
    });
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
