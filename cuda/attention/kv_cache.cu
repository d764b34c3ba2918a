// The key/value cache on CUDA: copies of rows between strided tensors, in runs of 16 bytes where
// both sides allow it. Lengths, counts and indices are read on the device.
//
// Where the CPU reports an error, a kernel cannot: an entry whose new tokens do not fit, or whose
// index or length is out of range, gets NaN as its first token, so that whatever attends to it
// shows it. Appending leaves its length alone, reordering makes it 1. A negative limit counts as 0.
// In a paged cache, whose pages other entries may share, nothing is written there: the length
// becomes larger than the table, and tokens whose page does not exist are left out, both of which
// attentionDecode turns into NaN.
//
// Keys that are rotated on the way, and queries beside them, are turned by warps whose lanes own a
// frequency each: its power is taken once, and an angle serves four heads.
//
// Cost: twice the bytes that are appended or kept; 6 FLOPs per pair, 30 per angle
// (cuda/dense/rotary.cuh). Prediction for an H200: a step of decoding (a few MB at most) takes the
// time of two launches, about 4 us, rotated or not, where two calls of rotary would add four more;
// reordering 0.8 of 4.3 TB/s. Right on an H200; times: bench/results/nvidia-h200.json.
#include "cpp/ops/attention/kv_cache.h"
#include "cuda/dense/rotary.cuh"
#include "cuda/dispatch.cuh"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

// Rows of [B, H, T, D], strides in bytes.
struct ByteRows {
  std::byte* data = nullptr;
  int64_t entry = 0, head = 0, row = 0, unit = 0;
};

struct Indices {
  int32_t* data = nullptr;
  int64_t step = 0;
  __device__ __forceinline__ int32_t operator[](int64_t i) const { return data[i * step]; }
};

// The pages of each entry, or none.
struct PageTable {
  const int32_t* data = nullptr;
  int64_t entryStep = 0, pageStep = 0;
  int64_t rows = 1, count = 0;  // rows of a page, pages
};

// Keys, then values: `units` pieces per row each.
struct CacheCopy {
  ByteRows from[2], to[2];
  int64_t units[2] = {};
  int64_t entries = 0, heads = 0, rows = 0;  // rows: most that an entry may have
  int64_t capacity = 0, oldEntries = 0;
  Indices lengths, counts, indices;
  PageTable pages;  // of `to`
};

// Keys, then queries: the first 2 half channels are turned, and `rest` further ones copied.
struct CacheRotation {
  ByteRows from[2], to[2];
  int64_t heads[2] = {}, rest[2] = {};
  int64_t half = 0;
  Turns turns;
  bool interleaved = false;
  DType dtype = DType::f32;
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

// Where token `row` of an entry's new ones goes: a batch entry, or page, and a row of it; an entry
// below 0 for nowhere.
struct CachePlace {
  int64_t entry = -1, row = 0;
};

__device__ __forceinline__ CachePlace placeOf(const CacheCopy& c, const EntryCopy& m, int64_t entry,
                                              int64_t row) {
  const int64_t target = m.target + row;
  if (c.pages.data == nullptr) {
    // Row 0 of an entry that is not valid takes the NaN.
    if (!m.valid) return {row == 0 && c.capacity > 0 ? entry : -1, 0};
    return {row < m.count ? entry : -1, target};
  }
  if (!m.valid || row >= m.count) return {};
  const int64_t page = target / c.pages.rows;
  const int64_t at = c.pages.data[entry * c.pages.entryStep + page * c.pages.pageStep];
  return {at < c.pages.count ? at : -1, target - page * c.pages.rows};
}

// All bits set: NaN, whatever the float.
template <class Unit>
__device__ __forceinline__ Unit nanOf() {
  Vector<uint8_t, sizeof(Unit)> nan;
#pragma unroll
  for (size_t j = 0; j < sizeof(Unit); ++j) nan.at[j] = 0xff;
  return bitCast<Unit>(nan);
}

template <class Unit>
__device__ __forceinline__ Unit* at(const ByteRows& rows, int64_t entry, int64_t head, int64_t row,
                                    int64_t unit) {
  return reinterpret_cast<Unit*>(rows.data + entry * rows.entry + head * rows.head +
                                 row * rows.row + unit * rows.unit);
}

// blockIdx.y: keys or values.
template <class Unit>
__device__ __forceinline__ void copyUnits(const CacheCopy& c) {
  const int which = static_cast<int>(blockIdx.y);
  const ByteRows &from = c.from[which], &to = c.to[which];
  const int64_t units = c.units[which], all = c.entries * c.heads * c.rows * units;
  for (int64_t i = gridThread(); i < all; i += gridThreads()) {
    const int64_t line = i / units, unit = i - line * units;
    const int64_t row = line % c.rows, head = line / c.rows % c.heads;
    const int64_t entry = line / c.rows / c.heads;
    const EntryCopy m = copyOf(c, entry);
    const CachePlace place = placeOf(c, m, entry, row);
    if (place.entry < 0) continue;
    *at<Unit>(to, place.entry, head, place.row, unit) =
        m.valid ? *at<Unit>(from, m.source, head, row, unit) : nanOf<Unit>();
  }
}

constexpr int kTurnedHeads = 4;  // of a warp's task, which share angles

// which: keys or queries.
template <class T>
__device__ __forceinline__ void rotateRows(const CacheCopy& c, const CacheRotation& r, int which) {
  const ByteRows &from = r.from[which], &to = r.to[which];
  const int64_t chunks = (r.heads[which] + kTurnedHeads - 1) / kTurnedHeads;
  const int64_t tasks = c.entries * c.rows * chunks;
  for (int64_t item = threadIdx.x % 32; item < r.half + r.rest[which]; item += 32) {
    const bool turned = item < r.half;
    const double turns = turned ? r.turns.ofPair(item) : 0;
    const int64_t x = !turned ? r.half + item : r.interleaved ? 2 * item : item;
    const int64_t y = !turned ? x : r.interleaved ? x + 1 : x + r.half;
    for (int64_t task = gridThread() / 32; task < tasks; task += gridThreads() / 32) {
      const int64_t chunk = task % chunks, row = task / chunks % c.rows;
      const int64_t entry = task / chunks / c.rows;
      const EntryCopy m = copyOf(c, entry);
      const CachePlace place = which == 0 ? placeOf(c, m, entry, row) : CachePlace{entry, row};
      if (place.entry < 0) continue;
      const float2 angle = cosineAndSine(static_cast<double>(m.target + row) * turns, 1.0f);
      const int64_t first = chunk * kTurnedHeads;
      T a[kTurnedHeads], b[kTurnedHeads];
#pragma unroll
      for (int i = 0; i < kTurnedHeads; ++i) {
        if (first + i >= r.heads[which]) continue;
        a[i] = *at<T>(from, entry, first + i, row, x);
        b[i] = *at<T>(from, entry, first + i, row, y);
      }
#pragma unroll
      for (int i = 0; i < kTurnedHeads; ++i) {
        if (first + i >= r.heads[which]) continue;
        if (turned) turnPair(angle, a[i], b[i]);
        const bool valid = which == 1 || m.valid;
        *at<T>(to, place.entry, first + i, place.row, x) = valid ? a[i] : nanOf<T>();
        *at<T>(to, place.entry, first + i, place.row, y) = valid ? b[i] : nanOf<T>();
      }
    }
  }
}

// blockIdx.y: keys and values to copy, keys and queries to turn.
__global__ void __launch_bounds__(kThreads)
    cacheCopyKernel(const __grid_constant__ CacheCopy c, const __grid_constant__ CacheRotation r,
                    int unitBytes) {
  if (blockIdx.y >= 2) {
    const int which = static_cast<int>(blockIdx.y) - 2;
    return dispatchNarrow(r.dtype,
                          [&](auto tag) { rotateRows<typename decltype(tag)::type>(c, r, which); });
  }
  if (unitBytes == 16) return copyUnits<uint4>(c);
  dispatchBits(unitBytes, [&](auto tag) { copyUnits<typename decltype(tag)::type>(c); });
}

__global__ void __launch_bounds__(kThreads)
    cacheLengthsKernel(const __grid_constant__ CacheCopy c, const Indices newLengths) {
  for (int64_t entry = gridThread(); entry < c.entries; entry += gridThreads()) {
    const EntryCopy m = copyOf(c, entry);
    int64_t invalid = c.lengths[entry];
    if (c.indices.data != nullptr) invalid = min(int64_t{1}, c.capacity);
    if (c.pages.data != nullptr) invalid = c.capacity + 1;
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

ByteRows rowsOf(const TensorView& t) {
  const auto size = static_cast<int64_t>(sizeOf(t.dtype));
  return {t.base + t.offset * size, t.stride[0] * size, t.stride[1] * size, t.stride[2] * size,
          t.stride[3] * size};
}

Indices indicesOf(const TensorView& t) { return {t.data<int32_t>(), t.stride[0]}; }

bool runsOf16(const ByteRows& r, int64_t elementBytes, int64_t rowBytes) {
  return r.unit == elementBytes && rowBytes % 16 == 0 &&
         reinterpret_cast<uintptr_t>(r.data) % 16 == 0 && r.entry % 16 == 0 && r.head % 16 == 0 &&
         r.row % 16 == 0;
}

Status launchCopy(CacheCopy c, DType type, const Context& context, const CacheRotation& r = {}) {
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
  const int64_t rows = c.entries * c.rows;
  const int64_t turned = (std::max(r.heads[0], r.heads[1]) + kTurnedHeads - 1) / kTurnedHeads * 32;
  const int64_t items = std::max(c.heads * std::max(c.units[0], c.units[1]), turned);
  if (rows * items == 0) return {};
  const uint32_t kinds = r.heads[1] > 0 ? 4 : r.heads[0] > 0 ? 3 : 2;
  const dim3 grid(blocksFor(rows * items, context.gpu), kinds), block(kThreads);
  return launched(launch(cacheCopyKernel, grid, block, 0, context.stream, c, r,
                         vectors ? 16 : static_cast<int>(size)));
}

// Beyond the channels that turn, keys are copied as values are.
Status rotationOf(const ops::KvCacheAppend& p, CacheCopy& c, CacheRotation& r) {
  if (p.keys.dtype == DType::f64) {
    return Status(Code::dtype, "keys", describe(p.keys),
                  "On a GPU rotate f32, f16 or bf16, or append without rotating");
  }
  r.half = p.turns.dim / 2;
  r.turns = Turns(p.turns);
  r.interleaved = p.turns.interleaved;
  r.dtype = p.keys.dtype;
  r.from[0] = c.from[0], r.to[0] = c.to[0];
  r.heads[0] = c.heads;
  for (ByteRows* rows : {&c.from[0], &c.to[0]}) rows->data += p.turns.dim * rows->unit;
  c.units[0] -= p.turns.dim;
  if (!p.q.defined()) return {};
  r.from[1] = rowsOf(p.q), r.to[1] = rowsOf(p.rotated);
  r.heads[1] = p.q.shape[1], r.rest[1] = p.q.shape[3] - p.turns.dim;
  return {};
}

Status kvCacheAppendOn(const ops::KvCacheAppend& p, Context& context) {
  CacheCopy c;
  c.from[0] = rowsOf(p.k), c.from[1] = rowsOf(p.v);
  c.to[0] = rowsOf(p.keys), c.to[1] = rowsOf(p.values);
  c.units[0] = p.keys.shape[3], c.units[1] = p.values.shape[3];
  c.entries = c.oldEntries = p.batch();
  c.heads = p.keys.shape[1], c.capacity = p.capacity(), c.rows = p.k.shape[2];
  c.lengths = indicesOf(p.lengths);
  if (p.counts.defined()) c.counts = indicesOf(p.counts);
  if (p.pageTable.defined()) {
    c.pages = {p.pageTable.data<int32_t>(), p.pageTable.stride[0], p.pageTable.stride[1],
               p.keys.shape[2], p.keys.shape[0]};
  }
  if (c.entries == 0) return {};
  CacheRotation r;
  if (p.rotates) LONGSPAN_RETURN_IF_ERROR(rotationOf(p, c, r));
  LONGSPAN_RETURN_IF_ERROR(launchCopy(c, p.keys.dtype, context, r));
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
