// Moving averages of centroids: a head per item, k D elements read and written three times.
#include <cmath>

#include "cpp/core/half.h"
#include "cpp/core/philox.h"
#include "cpp/ops/sparse/kmeans.h"

namespace longspan::cpu {
namespace {

// target = the direction of the token that `word` chooses; false where it has none.
template <class A>
bool takeToken(const ops::KmeansUpdate& p, int64_t h, uint32_t word, A* target) {
  const TensorView& x = p.x;
  const int64_t batch = x.shape[0], n = x.shape[2], dim = x.shape[3];
  const auto place = static_cast<int64_t>(word * static_cast<uint64_t>(batch * n) >> 32);
  if (batch * n == 0) return false;
  const int64_t b = place / n;
  const int64_t length =
      p.lengths.defined() ? std::min<int64_t>(p.lengths.data<int32_t>()[b], n) : n;
  if (length < 1) return false;
  return dispatchFloating(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* row =
        x.data<T>() + b * x.stride[0] + h * x.stride[1] + place % n % length * x.stride[2];
    double squares = 0;
    for (int64_t d = 0; d < dim; ++d) {
      const double value = load(row[d * x.stride[3]]);
      squares += value * value;
    }
    if (!(squares > 0) || !std::isfinite(squares)) return false;
    const double scale = 1 / std::sqrt(squares);
    for (int64_t d = 0; d < dim; ++d) {
      target[d] = static_cast<A>(load(row[d * x.stride[3]]) * scale);
    }
    return true;
  });
}

template <class A, class T>
void updateHead(const ops::KmeansUpdate& p, int64_t h) {
  const int64_t k = p.clusters(), dim = p.centroids.shape[2];
  A* centroids = p.centroids.data<A>() + h * k * dim;
  A* sums = p.sums.data<A>() + h * k * dim;
  A* counts = p.counts.data<A>() + h * k;
  const auto decay = static_cast<A>(p.decay), rest = static_cast<A>(1 - p.decay);
  double total = 0;
  for (int64_t c = 0; c < k; ++c) {
    if (p.reset) {
      counts[c] = 0;
    } else if (p.batchCounts.defined()) {
      counts[c] = decay * counts[c] + rest * static_cast<A>(p.batchCounts.data<T>()[h * k + c]);
    }
    total += counts[c];
  }
  const double mean = total / static_cast<double>(k), minimum = p.minimum * mean;
  const PhiloxState state = loadPhilox(p.state.data<int32_t>());
  for (int64_t c = 0; c < k; ++c, centroids += dim, sums += dim) {
    const T* batch = p.batchSums.defined() ? p.batchSums.data<T>() + (h * k + c) * dim : nullptr;
    if (p.reset || counts[c] < minimum) {
      const auto index = static_cast<uint64_t>(h * k + c);
      if (takeToken(p, h, philox(state, index / 4).word[index % 4], centroids)) {
        counts[c] = static_cast<A>(mean);
        for (int64_t d = 0; d < dim; ++d) sums[d] = centroids[d] * counts[c];
        continue;
      }
    }
    if (batch == nullptr) continue;
    double squares = 0;
    for (int64_t d = 0; d < dim; ++d) {
      const auto value = static_cast<A>(batch[d]);
      squares += static_cast<double>(value) * static_cast<double>(value);
      sums[d] = decay * sums[d] + rest * value;
    }
    if (p.rule == ops::CentroidRule::means) {
      if (!(squares > 0)) continue;
      const auto scale = static_cast<A>(1 / std::sqrt(squares));
      for (int64_t d = 0; d < dim; ++d) {
        centroids[d] = decay * centroids[d] + rest * (static_cast<A>(batch[d]) * scale);
      }
    } else if (counts[c] > 0) {
      const double share = (counts[c] + p.epsilon) / (total + static_cast<double>(k) * p.epsilon);
      const auto scale = static_cast<A>(1 / (share * total));
      for (int64_t d = 0; d < dim; ++d) centroids[d] = sums[d] * scale;
    }
  }
}

}  // namespace

Status kmeansUpdate(const ops::KmeansUpdate& p, Context& context) {
  const TensorView& batch = p.batchSums.defined() ? p.batchSums : p.centroids;
  dispatchFloating(p.centroids.dtype, [&](auto own) {
    using A = typename decltype(own)::type;
    if constexpr (std::is_same_v<A, float> || std::is_same_v<A, double>) {
      dispatchFloating(batch.dtype, [&](auto given) {
        using T = typename decltype(given)::type;
        if constexpr (std::is_same_v<T, float> || std::is_same_v<T, double>) {
          context.pool.forEach(p.centroids.shape[0],
                               [&](int64_t h, int) { updateHead<A, T>(p, h); });
        }
      });
    }
  });
  auto* state = p.state.data<int32_t>();
  PhiloxState next = loadPhilox(state);
  next.offset += static_cast<uint64_t>((p.centroids.shape[0] * p.clusters() + 3) / 4);
  storePhilox(state, next);
  return {};
}

}  // namespace longspan::cpu
