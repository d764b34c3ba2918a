// The key/value cache on CUDA: copies of rows between strided tensors, in runs of 16 bytes where
// both sides allow it. Lengths, counts and indices are read on the device.
//
// Where the CPU reports an error, a kernel cannot: an entry whose new tokens do not fit, or whose
// index or length is out of range, gets NaN as its first token, so that whatever attends to it
// shows it. Appending leaves its length alone, reordering makes it 1. A negative limit counts as 0.
//
// Cost: twice the bytes that are appended or kept. Prediction for an H200: a step of decoding (a
// few MB at most) takes the time of two launches, about 4 us; reordering 0.8 of 4.3 TB/s. Not yet
// run on hardware.
#include "cpp/ops/attention/kv_cache.h"
#include "cuda/dispatch.cuh"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

// Rows of [B, H, T, D], strides in bytes.
struct Rows {
  std::byte* data = nullptr;
  int64_t entry = 0, head = 0, row = 0, unit = 0;
};

struct Indices {
  int32_t* data = nullptr;
  int64_t step = 0;
  __device__ __forceinline__ int32_t operator[](int64_t i) const { return data[i * step]; }
};

// Keys, then values: `units` pieces per row each.
struct CacheCopy {
  Rows from[2], to[2];
  int64_t units[2] = {};
  int64_t entries = 0, heads = 0, rows = 0;  // rows: most that an entry may have
  int64_t capacity = 0, oldEntries = 0;
  Indices lengths, counts, indices;
};

// What becomes of an entry: rows [0, count) of entry `source` go to rows from `target` on.
struct EntryCopy {
  int64_t source = 0, target = 0, count = 0;
  bool valid = false;
};

__device__ __forceinline__ EntryCopy copyOf(const CacheCopy& c, int64_t entry) {
  EntryCopy m;
  if (c.indices.data != nullptr) {
    m.source = c.indices[entry];
    m.valid = m.source >= 0 && m.source < c.oldEntries;
    if (m.valid) m.count = c.lengths[m.source];
    m.valid = m.valid && m.count >= 0 && m.count <= c.capacity;
    return m;
  }
  m.source = entry;
  m.target = c.lengths[entry];
  m.count = c.counts.data != nullptr ? c.counts[entry] : c.rows;
  m.valid = m.count >= 0 && m.count <= c.rows && m.target >= 0 && m.target + m.count <= c.capacity;
  return m;
}

template <class Unit>
__device__ __forceinline__ Unit* at(const Rows& rows, int64_t entry, int64_t head, int64_t row,
                                    int64_t unit) {
  return reinterpret_cast<Unit*>(rows.data + entry * rows.entry + head * rows.head +
                                 row * rows.row + unit * rows.unit);
}

// blockIdx.y: keys or values.
template <class Unit>
__device__ __forceinline__ void copyUnits(const CacheCopy& c) {
  const int which = static_cast<int>(blockIdx.y);
  const Rows &from = c.from[which], &to = c.to[which];
  const int64_t units = c.units[which], all = c.entries * c.heads * c.rows * units;
  for (int64_t i = gridThread(); i < all; i += gridThreads()) {
    const int64_t line = i / units, unit = i - line * units;
    const int64_t row = line % c.rows, head = line / c.rows % c.heads;
    const int64_t entry = line / c.rows / c.heads;
    const EntryCopy m = copyOf(c, entry);
    if (!m.valid) {
      Vector<uint8_t, sizeof(Unit)> nan;  // all bits set, whatever the float
#pragma unroll
      for (size_t j = 0; j < sizeof(Unit); ++j) nan.at[j] = 0xff;
      if (row == 0 && c.capacity > 0) {
        *at<Unit>(to, entry, head, 0, unit) = bitCast<Unit>(nan);
      }
    } else if (row < m.count) {
      *at<Unit>(to, entry, head, m.target + row, unit) = *at<Unit>(from, m.source, head, row, unit);
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    cacheCopyKernel(const __grid_constant__ CacheCopy c, int unitBytes) {
  if (unitBytes == 16) return copyUnits<uint4>(c);
  dispatchBits(unitBytes, [&](auto tag) { copyUnits<typename decltype(tag)::type>(c); });
}

__global__ void __launch_bounds__(kThreads)
    cacheLengthsKernel(const __grid_constant__ CacheCopy c, const Indices newLengths) {
  for (int64_t entry = gridThread(); entry < c.entries; entry += gridThreads()) {
    const EntryCopy m = copyOf(c, entry);
    const int64_t invalid =
        c.indices.data == nullptr ? c.lengths[entry] : min(int64_t{1}, c.capacity);
    newLengths.data[entry * newLengths.step] =
        static_cast<int32_t>(m.valid ? m.target + m.count : invalid);
  }
}

__global__ void __launch_bounds__(kThreads)
    truncateKernel(const Indices lengths, const Indices limits, int64_t entries) {
  for (int64_t i = gridThread(); i < entries; i += gridThreads()) {
    lengths.data[i * lengths.step] = min(lengths[i], max(limits[i], 0));
  }
}

Rows rowsOf(const TensorView& t) {
  const auto size = static_cast<int64_t>(sizeOf(t.dtype));
  return {t.base + t.offset * size, t.stride[0] * size, t.stride[1] * size, t.stride[2] * size,
          t.stride[3] * size};
}

Indices indicesOf(const TensorView& t) { return {t.data<int32_t>(), t.stride[0]}; }

bool runsOf16(const Rows& r, int64_t elementBytes, int64_t rowBytes) {
  return r.unit == elementBytes && rowBytes % 16 == 0 &&
         reinterpret_cast<uintptr_t>(r.data) % 16 == 0 && r.entry % 16 == 0 && r.head % 16 == 0 &&
         r.row % 16 == 0;
}

Status launchCopy(CacheCopy c, DType type, const Context& context) {
  const auto size = static_cast<int64_t>(sizeOf(type));
  bool vectors = true;
  for (int i = 0; i < 2; ++i) {
    vectors = vectors && runsOf16(c.from[i], size, c.units[i] * size) &&
              runsOf16(c.to[i], size, c.units[i] * size);
  }
  if (vectors) {
    for (int i = 0; i < 2; ++i) {
      c.units[i] = c.units[i] * size / 16;
      c.from[i].unit = c.to[i].unit = 16;
    }
  }
  const int64_t all = c.entries * c.heads * c.rows * std::max(c.units[0], c.units[1]);
  if (all == 0) return {};
  const dim3 grid(blocksFor(all, context.gpu), 2), block(kThreads);
  return launched(launch(cacheCopyKernel, grid, block, 0, context.stream, c,
                         vectors ? 16 : static_cast<int>(size)));
}

Status kvCacheAppendOn(const ops::KvCacheAppend& p, Context& context) {
  CacheCopy c;
  c.from[0] = rowsOf(p.k), c.from[1] = rowsOf(p.v);
  c.to[0] = rowsOf(p.keys), c.to[1] = rowsOf(p.values);
  c.units[0] = p.keys.shape[3], c.units[1] = p.values.shape[3];
  c.entries = c.oldEntries = p.keys.shape[0];
  c.heads = p.keys.shape[1], c.capacity = p.keys.shape[2], c.rows = p.k.shape[2];
  c.lengths = indicesOf(p.lengths);
  if (p.counts.defined()) c.counts = indicesOf(p.counts);
  if (c.entries == 0) return {};
  LONGSPAN_RETURN_IF_ERROR(launchCopy(c, p.keys.dtype, context));
  return launched(launch(cacheLengthsKernel, dim3(blocksFor(c.entries, context.gpu)),
                         dim3(kThreads), 0, context.stream, c, c.lengths));
}

Status kvCacheReorderOn(const ops::KvCacheReorder& p, Context& context) {
  CacheCopy c;
  c.from[0] = rowsOf(p.keys), c.from[1] = rowsOf(p.values);
  c.to[0] = rowsOf(p.newKeys), c.to[1] = rowsOf(p.newValues);
  c.units[0] = p.keys.shape[3], c.units[1] = p.values.shape[3];
  c.entries = p.newKeys.shape[0], c.oldEntries = p.keys.shape[0];
  c.heads = p.keys.shape[1], c.capacity = c.rows = p.keys.shape[2];
  c.lengths = indicesOf(p.lengths);
  c.indices = indicesOf(p.indices);
  if (c.entries == 0) return {};
  LONGSPAN_RETURN_IF_ERROR(launchCopy(c, p.keys.dtype, context));
  return launched(launch(cacheLengthsKernel, dim3(blocksFor(c.entries, context.gpu)),
                         dim3(kThreads), 0, context.stream, c, indicesOf(p.newLengths)));
}

Status kvCacheTruncateOn(const ops::KvCacheTruncate& p, Context& context) {
  const int64_t entries = p.lengths.shape[0];
  if (entries == 0) return {};
  return launched(launch(truncateKernel, dim3(blocksFor(entries, context.gpu)), dim3(kThreads), 0,
                         context.stream, indicesOf(p.lengths), indicesOf(p.limits), entries));
}

LONGSPAN_CUDA_OPERATOR_F64(KvCacheAppend, kvCacheAppendOn);
LONGSPAN_CUDA_OPERATOR_F64(KvCacheReorder, kvCacheReorderOn);
LONGSPAN_CUDA_OPERATOR_F64(KvCacheTruncate, kvCacheTruncateOn);

}  // namespace
}  // namespace longspan::cuda
