// Dropout (Srivastava et al. 2014) with a mask that is computed, never stored.
// Cost: one read and one write of x, 40 integer multiplications per 4 elements.
#include "cpp/ops/dense/dropout.h"

#include <algorithm>

#include "cpp/cpu/philox_words.h"
#include "cpp/cpu/rows.h"
#include "cpp/ops/dense/random.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

template <class A>
void run(const ops::Dropout& p, ThreadPool& pool) {
  const uint32_t threshold = ops::probabilityThreshold(p.p);
  const A scale = p.p < 1 ? static_cast<A>(1 / (1 - p.p)) : A(0);
  const Elements x(p.x);
  forPhiloxTiles(pool, loadPhilox(p.state.data<int32_t>()), p.x.numel(),
                 [&](int64_t first, int64_t count, const uint32_t* words) {
                   A tile[kPhiloxTile];
                   if (count < kPhiloxTile) std::fill_n(tile, kPhiloxTile, A(0));
                   x.load(first, count, tile);
                   // Locals and a plain selection: with a branch, random numbers defeat prediction.
                   const uint32_t bound = threshold;
                   const A factor = scale;
                   for (int i = 0; i < kPhiloxTile; ++i) {
                     const A kept = tile[i] * factor;
                     tile[i] = words[i] >> 8 < bound ? A(0) : kept;
                   }
                   storeRow(p.y, first, 1, count, tile);
                 });
}

}  // namespace

Status dropout(const ops::Dropout& p, Context& context) {
  withAccumulator(p.x.dtype, [&](auto zero) { run<decltype(zero)>(p, context.pool); });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
