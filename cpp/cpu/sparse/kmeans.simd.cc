// k-means of tokens. Assignment and members are projections (projection.h) on centroids: 2 k D
// FLOPs a token, no N x k matrix; for members the scores of a few clusters at a time are kept, and
// the best found by partial quicksort (Hoare 1961). Sums read each token once, in the order of its
// cluster, a cluster per item, in f64: equal for any number of threads.
#include "cpp/ops/sparse/kmeans.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpp/cpu/sparse/projection.h"
#include "cpp/cpu/sparse/token_rows.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

Status kmeansAssign(const ops::KmeansAssign& p, Context& context) {
  const TensorView& x = p.x;
  const int64_t n = x.shape[2], dim = x.shape[3], k = p.clusters();
  NotFinite notFinite;
  withArithmetic(x.dtype, [&](auto zero) {
    using A = decltype(zero);
    A* packed = reinterpret_cast<A*>(context.workspace.data);
    packColumns(p.centroids, 2, packed);
    const auto assign = [&](int64_t b, int64_t h, int64_t first, int64_t count, const A* tokens,
                            const A* squares) {
      const int64_t row = (b * x.shape[1] + h) * n + first;
      int32_t* assignments = p.assignments.data<int32_t>() + row;
      A* scores = p.scores.data<A>() + row;
      const int64_t here = std::min<int64_t>(kTileTokens<A>, n - first);
      alignas(64) A most[kTileTokens<A>], at[kTileTokens<A>];
      if (count > 0) {
        LargestProducts<A> largest;
        eachColumn(
            tokens, dim, packed + h * k * dim, k,
            [&](int64_t c, Vector<A>(&products)[kTileVectors]) { largest.take(c, products); });
        for (int v = 0; v < kTileVectors; ++v) {
          vstore(most + v * kLanesOf<A>, largest.most[v]);
          vstore(at + v * kLanesOf<A>, largest.at[v]);
        }
      }
      for (int64_t i = 0; i < here; ++i) {
        assignments[i] = static_cast<int32_t>(i < count ? static_cast<int64_t>(at[i]) : k);
        scores[i] = i < count ? most[i] * inverseLength(squares[i]) : A{0};
      }
    };
    forTokenTiles(context.pool, x, p.lengths, packed + p.centroids.numel(), notFinite, assign);
  });
  return notFinite.status("x", x);
}

Status clusterSums(const ops::ClusterSums& p, Context& context) {
  const TensorView& x = p.x;
  const int64_t batch = x.shape[0], heads = x.shape[1], n = x.shape[2], dim = x.shape[3];
  const int64_t k = p.clusters();
  withArithmetic(x.dtype, [&](auto zero) {
    using A = decltype(zero);
    context.pool.forEach(heads * k, [&](int64_t item, int) {
      const int64_t h = item / k, c = item % k;
      Chunk<A> scratch;
      alignas(64) double sum[ops::kMostDim];
      std::fill_n(sum, dim, 0.0);
      int64_t members = 0;
      for (int64_t b = 0; b < batch; ++b) {
        const int64_t line = b * heads + h;
        const int32_t* order = p.order.data<int32_t>() + line * n;
        const int32_t* offsets = p.offsets.data<int32_t>() + line * (k + 1);
        const int64_t end = std::min<int64_t>(offsets[c + 1], n);
        for (int64_t i = std::max(offsets[c], 0); i < end; ++i) {
          if (order[i] < 0 || order[i] >= n) continue;
          const A* row = tokenRow(x, b, h, order[i], scratch.data);
          const A scale = inverseLength(dot(row, row, dim));
          for (int64_t d = 0; d < dim; ++d) sum[d] += static_cast<double>(scale * row[d]);
          ++members;
        }
      }
      A* sums = p.sums.data<A>() + item * dim;
      for (int64_t d = 0; d < dim; ++d) sums[d] = static_cast<A>(sum[d]);
      p.counts.data<A>()[item] = static_cast<A>(members);
    });
  });
  return {};
}

Status clusterMembers(const ops::ClusterMembers& p, Context& context) {
  const TensorView& x = p.x;
  const int64_t batch = x.shape[0], heads = x.shape[1], n = x.shape[2], dim = x.shape[3];
  const int64_t k = p.clusters(), groups = (k + ops::kMemberClusters - 1) / ops::kMemberClusters;
  NotFinite notFinite;
  withArithmetic(x.dtype, [&](auto zero) {
    using A = decltype(zero);
    constexpr int64_t kTokens = kTileTokens<A>;
    const int threads = context.pool.size();
    A* packed = reinterpret_cast<A*>(context.workspace.data);
    A* tiles = packed + p.centroids.numel();
    A* allScores = tiles + threads * dim * ops::kMostTileTokens;
    auto* allPositions = reinterpret_cast<int32_t*>(allScores + threads * ops::kMemberClusters * n);
    packColumns(p.centroids, 2, packed);
    context.pool.forEach(batch * heads * groups, [&](int64_t item, int thread) {
      const int64_t c0 = item % groups * ops::kMemberClusters, h = item / groups % heads,
                    b = item / groups / heads;
      const int64_t few = std::min(ops::kMemberClusters, k - c0);
      const int64_t length =
          std::clamp<int64_t>(p.lengths.defined() ? p.lengths.data<int32_t>()[b] : n, 0, n);
      A* tokens = tiles + thread * dim * ops::kMostTileTokens;
      A* scores = allScores + thread * ops::kMemberClusters * n;
      int32_t* positions = allPositions + thread * n;
      for (int64_t first = 0; first < length; first += kTokens) {
        const int64_t count = std::min(kTokens, length - first);
        loadTokens(x, b, h, first, count, tokens);
        Vector<A> sums[kTileVectors];
        squaresOf(tokens, dim, sums);
        alignas(64) A scale[kTokens], products[kTokens];
        for (int v = 0; v < kTileVectors; ++v) vstore(scale + v * kLanesOf<A>, sums[v]);
        for (int64_t i = 0; i < count; ++i) {
          if (!(scale[i] < std::numeric_limits<A>::infinity())) {
            notFinite.record((b * heads + h) * n + first + i);
          }
          scale[i] = inverseLength(scale[i]);
        }
        eachColumn(tokens, dim, packed + (h * k + c0) * dim, few,
                   [&](int64_t c, Vector<A>(&found)[kTileVectors]) {
                     for (int v = 0; v < kTileVectors; ++v) {
                       vstore(products + v * kLanesOf<A>, found[v]);
                     }
                     A* to = scores + c * n + first;
                     for (int64_t i = 0; i < count; ++i) to[i] = products[i] * scale[i];
                   });
      }
      const int64_t taken = std::min(p.window, length);
      for (int64_t c = 0; c < few; ++c) {
        const A* score = scores + c * n;
        for (int64_t i = 0; i < length; ++i) positions[i] = static_cast<int32_t>(i);
        // NaN, which is reported, must not break the order.
        const auto better = [score](int32_t i, int32_t j) {
          const A a = score[i] == score[i] ? score[i] : A{-2};
          const A b = score[j] == score[j] ? score[j] : A{-2};
          return a != b ? a > b : i < j;
        };
        if (taken < length) {
          std::nth_element(positions, positions + taken, positions + length, better);
        }
        std::sort(positions, positions + taken);
        int32_t* members = p.members.data<int32_t>() + ((b * heads + h) * k + c0 + c) * p.window;
        std::copy_n(positions, taken, members);
        std::fill(members + taken, members + p.window, -1);
      }
    });
  });
  return notFinite.status("x", x);
}

namespace {

// Calls body(row, cluster, x, centroid, squares of x, b, h, n) for each token in a cluster, and
// none(row, b, h, n) for the others.
template <class A, class P, class F, class G>
void eachCommitted(const P& p, ThreadPool& pool, F&& body, G&& none) {
  const TensorView& x = p.x;
  const int64_t heads = x.shape[1], n = x.shape[2], dim = x.shape[3], k = p.centroids.shape[1];
  pool.forRange(
      x.shape[0] * heads * n, std::max<int64_t>(1, 16384 / dim), [&](int64_t begin, int64_t end) {
        Chunk<A> rowScratch, centroidScratch;
        for (int64_t row = begin; row < end; ++row) {
          const int64_t b = row / n / heads, h = row / n % heads, i = row % n;
          const int64_t c = p.assignments.template data<int32_t>()[row];
          if (c < 0 || c >= k) {
            none(row, b, h, i);
            continue;
          }
          const A* token = tokenRow(x, b, h, i, rowScratch.data);
          const A* centroid =
              loadChunk(p.centroids, h * p.centroids.stride[0] + c * p.centroids.stride[1],
                        p.centroids.stride[2], dim, centroidScratch.data);
          body(row, token, centroid, inverseLength(dot(token, token, dim)), b, h, i);
        }
      });
}

}  // namespace

Status commitmentDistance(const ops::CommitmentDistance& p, Context& context) {
  const int64_t dim = p.x.shape[3];
  withArithmetic(p.x.dtype, [&](auto zero) {
    using A = decltype(zero);
    A* distances = p.distances.data<A>();
    eachCommitted<A>(
        p, context.pool,
        [&](int64_t row, const A* x, const A* centroid, A scale, int64_t, int64_t, int64_t) {
          A sum = 0;
          for (int64_t d = 0; d < dim; ++d) {
            const A difference = x[d] * scale - centroid[d];
            sum += difference * difference;
          }
          distances[row] = sum;
        },
        [&](int64_t row, int64_t, int64_t, int64_t) { distances[row] = 0; });
  });
  return {};
}

// With u = x / |x|: d |u - c|^2 / dx = 2 (u (u . c) - c) / |x|; shorter than the least length, u is
// x / 1e-12 and the gradient that of a plain distance.
Status commitmentDistanceBackward(const ops::CommitmentDistanceBackward& p, Context& context) {
  const int64_t dim = p.x.shape[3];
  withArithmetic(p.x.dtype, [&](auto zero) {
    using A = decltype(zero);
    const TensorView &g = p.gradDistances, &y = p.gradX;
    const auto target = [&](int64_t b, int64_t h, int64_t i) {
      return b * y.stride[0] + h * y.stride[1] + i * y.stride[2];
    };
    eachCommitted<A>(
        p, context.pool,
        [&](int64_t, const A* x, const A* centroid, A scale, int64_t b, int64_t h, int64_t i) {
          const A grad = g.data<A>()[b * g.stride[0] + h * g.stride[1] + i * g.stride[2]];
          const bool floored = scale >= static_cast<A>(1e12);
          const A along = floored ? A{1} : scale * dot(x, centroid, dim);
          Chunk<A> scratch;
          A* out = chunkTarget(y, target(b, h, i), scratch.data, y.stride[3]);
          for (int64_t d = 0; d < dim; ++d) {
            out[d] = 2 * grad * scale * (x[d] * scale * along - centroid[d]);
          }
          storeChunk(y, target(b, h, i), dim, out, y.stride[3]);
        },
        [&](int64_t, int64_t b, int64_t h, int64_t i) {
          Chunk<A> scratch;
          A* out = chunkTarget(y, target(b, h, i), scratch.data, y.stride[3]);
          std::fill_n(out, dim, A{0});
          storeChunk(y, target(b, h, i), dim, out, y.stride[3]);
        });
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
