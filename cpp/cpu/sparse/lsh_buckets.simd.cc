// Hashing (projection.h): per token, round and factor of b buckets D b FLOPs, a maximum and a
// minimum, and one number written. The rotations are the columns.
#include "cpp/ops/sparse/lsh_buckets.h"

#include <limits>

#include "cpp/cpu/chunk.h"
#include "cpp/cpu/sparse/projection.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

Status lshBuckets(const ops::LshBuckets& p, Context& context) {
  const TensorView& x = p.x;
  const int64_t n = x.shape[2], dim = x.shape[3], rounds = p.rounds(), columns = p.columns();
  const int64_t none = p.count();
  NotFinite notFinite;
  withArithmetic(x.dtype, [&](auto zero) {
    using A = decltype(zero);
    constexpr int kLanesA = kLanesOf<A>;
    A* packed = reinterpret_cast<A*>(context.workspace.data);
    A* scratch = packed + p.rotations.numel();
    packColumns(p.rotations, 2, packed);
    forTokenTiles(
        context.pool, x, p.lengths, scratch, notFinite,
        [&](int64_t b, int64_t h, int64_t first, int64_t count, const A* tokens, const A*) {
          const A* column = packed + (p.rotations.shape[0] == 1 ? 0 : h) * rounds * columns * dim;
          int32_t* out = p.buckets.data<int32_t>() + (b * x.shape[1] + h) * rounds * n;
          const int64_t here = std::min<int64_t>(kTileTokens<A>, n - first);
          for (int64_t r = 0; r < rounds; ++r, out += n) {
            alignas(64) A bucket[kTileTokens<A>];
            if (count > 0) {
              Vector<A> sum[kTileVectors] = {};
              A scale = 1;
              for (int64_t factor : p.factors) {
                LargestProducts<A> plus, minus;
                eachColumn(tokens, dim, column, factor / 2,
                           [&](int64_t c, Vector<A>(&products)[kTileVectors]) {
                             plus.take(c, products);
                             for (auto& product : products) product = -product;
                             minus.take(c, products);
                           });
                column += factor / 2 * dim;
                const Vector<A> half = vbroadcast(static_cast<A>(factor / 2));
                for (int v = 0; v < kTileVectors; ++v) {
                  const auto negative = minus.most[v] > plus.most[v];
                  sum[v] = vfma(vbroadcast(scale),
                                vselect(negative, minus.at[v] + half, plus.at[v]), sum[v]);
                }
                scale *= static_cast<A>(factor);
              }
              for (int v = 0; v < kTileVectors; ++v) vstore(bucket + v * kLanesA, sum[v]);
            }
            for (int64_t i = 0; i < here; ++i) {
              out[first + i] =
                  static_cast<int32_t>(i < count ? static_cast<int64_t>(bucket[i]) : none);
            }
          }
        });
  });
  return notFinite.status("x", x);
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
