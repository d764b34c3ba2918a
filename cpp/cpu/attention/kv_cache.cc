// Copies of rows; bytes: twice what is appended or kept.
#include "cpp/ops/attention/kv_cache.h"

#include <algorithm>
#include <cstring>

namespace longspan::cpu {
namespace {

int32_t& at(const TensorView& t, int64_t i) { return t.data<int32_t>()[i * t.stride[0]]; }

// `rows` token rows of head h: from entry b of `from` to entry `toB` of `to`.
void copyRows(const TensorView& from, int64_t b, int64_t row, const TensorView& to, int64_t toB,
              int64_t toRow, int64_t h, int64_t rows) {
  const size_t size = sizeOf(from.dtype);
  const auto address = [&](const TensorView& t, int64_t entry, int64_t r) {
    return t.base + (t.offset + entry * t.stride[0] + h * t.stride[1] + r * t.stride[2]) *
                        static_cast<int64_t>(size);
  };
  const int64_t dim = from.shape[3], step = from.stride[3], toStep = to.stride[3];
  for (int64_t r = 0; r < rows; ++r) {
    const std::byte* source = address(from, b, row + r);
    std::byte* target = address(to, toB, toRow + r);
    if (step == 1 && toStep == 1) {
      std::memcpy(target, source, static_cast<size_t>(dim) * size);
      continue;
    }
    for (int64_t d = 0; d < dim; ++d) {
      std::memcpy(target + d * toStep * static_cast<int64_t>(size),
                  source + d * step * static_cast<int64_t>(size), size);
    }
  }
}

Status outside(const char* field, int64_t value, int64_t entry, const std::string& remedy) {
  return Status(Code::failed, field,
                std::to_string(value) + " in batch entry " + std::to_string(entry), remedy);
}

}  // namespace

Status kvCacheAppend(const ops::KvCacheAppend& p, Context& context) {
  const int64_t batch = p.keys.shape[0], heads = p.keys.shape[1], capacity = p.keys.shape[2],
                tokens = p.k.shape[2];
  const auto countOf = [&](int64_t b) { return p.counts.defined() ? at(p.counts, b) : tokens; };
  // Nothing is written unless everything fits.
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t length = at(p.lengths, b), count = countOf(b);
    if (count < 0 || count > tokens) {
      return outside("counts", count, b, "Counts must be 0 to " + std::to_string(tokens));
    }
    if (length < 0 || length + count > capacity) {
      return Status(Code::failed, "lengths",
                    std::to_string(count) + " new tokens do not fit behind the " +
                        std::to_string(length) + " of batch entry " + std::to_string(b) +
                        " in a capacity of " + std::to_string(capacity),
                    "Make a larger cache, or truncate it first");
    }
  }
  context.pool.forEach(batch * heads, [&](int64_t item, int) {
    const int64_t b = item / heads, h = item % heads;
    copyRows(p.k, b, 0, p.keys, b, at(p.lengths, b), h, countOf(b));
    copyRows(p.v, b, 0, p.values, b, at(p.lengths, b), h, countOf(b));
  });
  for (int64_t b = 0; b < batch; ++b) at(p.lengths, b) += static_cast<int32_t>(countOf(b));
  return {};
}

Status kvCacheTruncate(const ops::KvCacheTruncate& p, Context&) {
  for (int64_t b = 0; b < p.lengths.shape[0]; ++b) {
    if (at(p.limits, b) < 0)
      return outside("limits", at(p.limits, b), b, "Limits must be 0 or more");
  }
  for (int64_t b = 0; b < p.lengths.shape[0]; ++b)
    at(p.lengths, b) = std::min(at(p.lengths, b), at(p.limits, b));
  return {};
}

Status kvCacheReorder(const ops::KvCacheReorder& p, Context& context) {
  const int64_t batch = p.newKeys.shape[0], old = p.keys.shape[0], heads = p.keys.shape[1];
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t from = at(p.indices, b);
    if (from < 0 || from >= old) {
      return outside("indices", from, b, "Indices must be 0 to " + std::to_string(old - 1));
    }
    const int64_t length = at(p.lengths, from);
    if (length < 0 || length > p.keys.shape[2]) {
      return outside("lengths", length, from,
                     "Lengths must be 0 to " + std::to_string(p.keys.shape[2]));
    }
    at(p.newLengths, b) = static_cast<int32_t>(length);
  }
  context.pool.forEach(batch * heads, [&](int64_t item, int) {
    const int64_t b = item / heads, h = item % heads, from = at(p.indices, b);
    copyRows(p.keys, from, 0, p.newKeys, b, 0, h, at(p.newLengths, b));
    copyRows(p.values, from, 0, p.newValues, b, 0, h, at(p.newLengths, b));
  });
  return {};
}

}  // namespace longspan::cpu
