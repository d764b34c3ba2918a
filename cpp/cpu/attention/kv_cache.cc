// Copies of rows; bytes: twice what is kept.
#include "cpp/ops/attention/kv_cache.h"

#include <algorithm>

#include "cpp/cpu/attention/cache_rows.h"

namespace longspan::cpu {

Status kvCacheTruncate(const ops::KvCacheTruncate& p, Context&) {
  for (int64_t b = 0; b < p.lengths.shape[0]; ++b) {
    if (elementAt(p.limits, b) < 0)
      return outside("limits", elementAt(p.limits, b), b, "Limits must be 0 or more");
  }
  for (int64_t b = 0; b < p.lengths.shape[0]; ++b)
    elementAt(p.lengths, b) = std::min(elementAt(p.lengths, b), elementAt(p.limits, b));
  return {};
}

Status kvCacheReorder(const ops::KvCacheReorder& p, Context& context) {
  const int64_t batch = p.newKeys.shape[0], old = p.keys.shape[0], heads = p.keys.shape[1];
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t from = elementAt(p.indices, b);
    if (from < 0 || from >= old) {
      return outside("indices", from, b, "Indices must be 0 to " + std::to_string(old - 1));
    }
    const int64_t length = elementAt(p.lengths, from);
    if (length < 0 || length > p.keys.shape[2]) {
      return outside("lengths", length, from,
                     "Lengths must be 0 to " + std::to_string(p.keys.shape[2]));
    }
    elementAt(p.newLengths, b) = static_cast<int32_t>(length);
  }
  context.pool.forEach(batch * heads, [&](int64_t item, int) {
    const int64_t b = item / heads, h = item % heads, from = elementAt(p.indices, b);
    copyRows(p.keys, from, 0, p.newKeys, b, 0, h, elementAt(p.newLengths, b));
    copyRows(p.values, from, 0, p.newValues, b, 0, h, elementAt(p.newLengths, b));
  });
  return {};
}

}  // namespace longspan::cpu
