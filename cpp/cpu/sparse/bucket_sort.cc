// Counting sort (Knuth, "The Art of Computer Programming" 3, section 5.2, algorithm D), a line per
// item: counts, running sums, and one scatter in the order of positions, which keeps it stable. Per
// element two reads of 4 bytes and one scattered write; 3 ns on an EPYC core where the places of
// the groups fit into the second cache.
#include "cpp/ops/sparse/bucket_sort.h"

#include <algorithm>

#include "cpp/cpu/rows.h"

namespace longspan::cpu {

Status bucketSort(const ops::BucketSort& p, Context& context) {
  const Rows lines(p.groups);
  const int64_t n = p.length(), count = p.count, step = lines.step;
  const auto* groups = p.groups.data<int32_t>();
  auto* order = p.order.data<int32_t>();
  auto* offsets = p.offsets.data<int32_t>();
  auto* inverse = p.withInverse ? p.inverse.data<int32_t>() : nullptr;
  auto* places = reinterpret_cast<int32_t*>(context.workspace.data);
  context.pool.forEach(p.offsets.numel() / (count + 1), [&](int64_t line, int thread) {
    const int32_t* group = groups + lines.at(line);
    int32_t* next = places + thread * (count + 1);
    int32_t* begins = offsets + line * (count + 1);
    // Ids below 0 are large without a sign.
    const auto groupOf = [=](int64_t i) {
      return std::min(static_cast<uint32_t>(group[i * step]), static_cast<uint32_t>(count));
    };
    std::fill_n(next, count + 1, 0);
    for (int64_t i = 0; i < n; ++i) ++next[groupOf(i)];
    int32_t total = 0;
    for (int64_t g = 0; g <= count; ++g) {
      begins[g] = total;
      total += next[g];
      next[g] = begins[g];
    }
    int32_t* to = order + line * n;
    for (int64_t i = 0; i < n; ++i) {
      const int32_t place = next[groupOf(i)]++;
      to[place] = static_cast<int32_t>(i);
      if (inverse != nullptr) inverse[line * n + i] = place;
    }
  });
  return {};
}

}  // namespace longspan::cpu
