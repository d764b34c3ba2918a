// Each line along the axis becomes an array of integers whose order is that of the elements, and of
// positions where elements are equal: 64 bits for the narrow types (32 of key, 32 of position), a
// pair for f64. Such keys are distinct, so every algorithm is stable. Long lines of narrow types
// take three passes of a radix sort by 11 bits. Top-k keeps what is better than the k-th best so
// far, selects among twice as many whenever these have come, and sorts the k that remain.
#include "cpp/ops/dense/sort.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "cpp/core/half.h"
#include "cpp/cpu/axis_blocks.h"
#include "cpp/cpu/element.h"

namespace longspan::cpu {
namespace {

// Unsigned images in the order of the numbers: both zeros alike, NaN above all.
uint32_t orderOf(float x) {
  if (x != x) return UINT32_MAX;
  const auto bits = std::bit_cast<uint32_t>(x == 0 ? 0.0f : x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
uint64_t orderOf(double x) {
  if (x != x) return UINT64_MAX;
  const auto bits = std::bit_cast<uint64_t>(x == 0 ? 0.0 : x);
  return bits >> 63 ? ~bits : bits | (uint64_t{1} << 63);
}
uint32_t orderOf(int32_t x) { return static_cast<uint32_t>(x) ^ 0x80000000u; }
uint32_t orderOf(uint8_t x) { return x; }

struct Wide {
  uint64_t key;
  uint64_t position;
  bool operator<(const Wide& other) const {
    return key != other.key ? key < other.key : position < other.position;
  }
};

uint64_t record(uint32_t key, int64_t position, bool descending) {
  return uint64_t{descending ? ~key : key} << 32 | static_cast<uint64_t>(position);
}
Wide record(uint64_t key, int64_t position, bool descending) {
  return {descending ? ~key : key, static_cast<uint64_t>(position)};
}
int64_t positionOf(uint64_t r) { return static_cast<int64_t>(r & UINT32_MAX); }
int64_t positionOf(const Wide& r) { return static_cast<int64_t>(r.position); }

// Stable passes over the upper 32 bits; the positions below start out in order.
void radixSort(uint64_t* records, uint64_t* other, int64_t n) {
  constexpr int kBits = 11, kBuckets = 1 << kBits;
  for (int shift = 32; shift < 64; shift += kBits) {
    int64_t starts[kBuckets] = {};
    for (int64_t i = 0; i < n; ++i) ++starts[(records[i] >> shift) % kBuckets];
    int64_t total = 0;
    for (int64_t& start : starts) total += std::exchange(start, total);
    for (int64_t i = 0; i < n; ++i) other[starts[(records[i] >> shift) % kBuckets]++] = records[i];
    std::swap(records, other);
  }
  // An odd number of passes leaves the result in the other array.
  std::memcpy(other, records, static_cast<size_t>(n) * sizeof(uint64_t));
}

void sortRecords(uint64_t* records, uint64_t* other, int64_t n) {
  if (n > 1024) {
    radixSort(records, other, n);
  } else {
    std::sort(records, records + n);
  }
}
void sortRecords(Wide* records, Wide*, int64_t n) { std::sort(records, records + n); }

// Calls arrange(recordAt, records) on each line, recordAt(i) being that of element i, and writes
// the first `taken` records.
template <class F>
void eachLine(const TensorView& x, int64_t axis, bool descending, int64_t taken,
              const TensorView& values, const TensorView& indices, size_t bytesPerThread,
              Context& context, F&& arrange) {
  const int64_t xs = x.stride[axis], ys = values.stride[axis];
  TensorView from = sliceLayout(x, axis, 1), to = sliceLayout(values, axis, 1);
  const int64_t lines = from.numel();
  dispatchAny(x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Record = decltype(record(orderOf(load(T{})), 0, false));
    context.pool.forEach(lines, [&](int64_t line, int thread) {
      auto* records = reinterpret_cast<Record*>(context.workspace.data +
                                                static_cast<size_t>(thread) * bytesPerThread);
      const T* source = x.data<T>() + offsetAlong(from, 0, from.rank, line);
      arrange([=](int64_t i) { return record(orderOf(load(source[i * xs])), i, descending); },
              records);
      const int64_t at = offsetAlong(to, 0, to.rank, line);
      T* value = values.data<T>() + at;
      int32_t* index = indices.data<int32_t>() + at;
      for (int64_t i = 0; i < taken; ++i) {
        const int64_t position = positionOf(records[i]);
        value[i * ys] = source[position * xs];
        index[i * ys] = static_cast<int32_t>(position);
      }
    });
  });
}

}  // namespace

Status sort(const ops::Sort& p, Context& context) {
  const int64_t n = p.x.shape[p.axis];
  eachLine(p.x, p.axis, p.descending, n, p.values, p.indices, static_cast<size_t>(n) * 32, context,
           [n](auto&& recordAt, auto* records) {
             for (int64_t i = 0; i < n; ++i) records[i] = recordAt(i);
             sortRecords(records, records + n, n);
           });
  return {};
}

Status topK(const ops::TopK& p, Context& context) {
  const int64_t n = p.x.shape[p.axis], k = p.k;
  if (k == 0) return {};
  const int64_t room = p.candidates();
  eachLine(p.x, p.axis, p.largest, k, p.values, p.indices, static_cast<size_t>(room) * 16, context,
           [n, k, room](auto&& recordAt, auto* records) {
             int64_t held = 0;
             auto bound = recordAt(0);  // of the k-th best, once `selected`
             bool selected = false;
             const auto select = [&] {
               std::nth_element(records, records + k - 1, records + held);
               held = k;
               bound = records[k - 1];
               selected = true;
             };
             for (int64_t i = 0; i < n; ++i) {
               const auto r = recordAt(i);
               if (selected && !(r < bound)) continue;
               records[held++] = r;
               if (held == room && k < room) select();
             }
             if (k < held) select();
             std::sort(records, records + k);
           });
  return {};
}

}  // namespace longspan::cpu
