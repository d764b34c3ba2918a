// A head per item, its tokens one after another: the window's keys are read for the logits, its
// values for the output, 2 W (D + Dv) FLOPs a token.
#include "cpp/ops/sparse/routing_step.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpp/cpu/element.h"
#include "cpp/cpu/sparse/token_rows.h"

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

}  // namespace

Status routingStep(const ops::RoutingStep& p, Context& context) {
  const int64_t heads = p.q.shape[1], tokens = p.q.shape[2], dim = p.q.shape[3];
  const int64_t valueDim = p.v.shape[3], clusters = p.clusters(), window = p.window();
  const auto inside = [=](int64_t cluster) { return cluster >= 0 && cluster < clusters; };
  withArithmetic(p.q.dtype, [&](auto zero) {
    using A = decltype(zero);
    const A scale = static_cast<A>(p.scale), own = static_cast<A>(-p.selfPenalty);
    context.pool.forEach(p.q.shape[0] * heads, [&](int64_t line, int thread) {
      const int64_t b = line / heads, h = line % heads;
      A* logits = reinterpret_cast<A*>(context.workspace.data) + thread * window;
      int32_t* counts = p.counts.data<int32_t>() + line * clusters;
      Chunk<A> queryScratch, rowScratch, outScratch;
      for (int64_t t = 0; t < tokens; ++t) {
        const int64_t keyCluster = p.keyClusters.data<int32_t>()[line * tokens + t],
                      cluster = p.queryClusters.data<int32_t>()[line * tokens + t];
        int64_t self = -1;
        if (inside(keyCluster)) {
          const int64_t slot = counts[keyCluster]++ % window,
                        row = (line * clusters + keyCluster) * window + slot;
          keepToken(p.k, b, h, t, p.keys, row);
          keepToken(p.v, b, h, t, p.values, row);
          if (keyCluster == cluster && p.lastResort) self = slot;
        }
        const int64_t first = (line * clusters + cluster) * window;
        const int64_t seen = inside(cluster) ? std::min<int64_t>(counts[cluster], window) : 0;
        const A* query = tokenRow(p.q, b, h, t, queryScratch.data);
        A most = -std::numeric_limits<A>::infinity(), total = 0;
        for (int64_t i = 0; i < seen; ++i) {
          const A* key = loadChunk(p.keys, (first + i) * dim, 1, dim, rowScratch.data);
          logits[i] = i == self ? own : scale * dot(query, key, dim);
          most = std::max(most, logits[i]);
        }
        const int64_t to = (line * tokens + t) * valueDim;
        A* out = chunkTarget(p.o, to, outScratch.data);
        std::fill_n(out, valueDim, A{0});
        for (int64_t i = 0; i < seen; ++i) {
          const A weight = std::exp(logits[i] - most);
          const A* value =
              loadChunk(p.values, (first + i) * valueDim, 1, valueDim, rowScratch.data);
          for (int64_t d = 0; d < valueDim; ++d) out[d] += weight * value[d];
          total += weight;
        }
        for (int64_t d = 0; d < valueDim && seen > 0; ++d) out[d] /= total;
        storeChunk(p.o, to, valueDim, out);
      }
    });
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
