// Sorting along an axis, and the k most extreme elements.
//
// An element becomes a record of 64 bits: 32 whose order is that of the numbers, then its
// position. Records are distinct, so every algorithm is stable. Tiles of 2048 records are sorted
// in shared memory, 8 by each thread in registers, then merged pairwise there and beyond, a thread
// and a block finding their shares of two runs by bisection (Green, McColl and Bader 2012, "GPU
// merge path"). For few elements of a long line only the first k of each tile are kept, tile after
// tile, until one tile is left; for up to 32 of them a bound is found first, and only what it lets
// through is sorted. Cost: n reads of 4 bytes, 16 n bytes for each doubling beyond 2048, 8 n bytes
// of results; 8 rounds of merging in shared memory for each tile, an estimated 150 instructions of
// an element (a bitonic network of 66 steps takes 3 times as many); selecting, 21 steps of 64
// records and about 10 of 16 to 64.
//
// H200: 64 M elements in 8192 lines were sorted in 5.0 ms, and the first 8 of each line chosen in
// 3.9 ms, both with bitonic tiles (bench/results/nvidia-h200.json, 28 November 2026). In this form
// not yet run on hardware; predicted: 2.5 ms, and 0.3 ms.
#include <algorithm>
#include <utility>

#include "cpp/ops/dense/sort.h"
#include "cuda/dense/sorting.h"

namespace longspan::cuda {
namespace {

using Record = unsigned long long;

constexpr int kSortTile = 2048;  // records sorted or merged by a block
constexpr int kPerThread = 8;
constexpr int kSortThreads = kSortTile / kPerThread;
constexpr int64_t kFew = 512;  // wanted elements up to which selection beats sorting
// Wanted elements of a tile up to which only those are sorted that a bound lets through, and the
// groups whose first records give the bound.
constexpr int kFewest = 32, kGroups = 64, kPerGroup = kSortTile / kGroups;
constexpr Record kNoRecord = ~Record{0};

// An unsigned image in the order of the numbers: both zeros alike, NaN above all.
__device__ __forceinline__ uint32_t orderOf(float x) {
  if (x != x) return 0xffffffffu;
  const uint32_t bits = x == 0 ? 0u : __float_as_uint(x);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ uint32_t orderAt(const void* x, DType dtype, int64_t at) {
  switch (dtype) {
    case DType::f16:
      return orderOf(toFloat(static_cast<const f16*>(x)[at]));
    case DType::bf16:
      return orderOf(toFloat(static_cast<const bf16*>(x)[at]));
    case DType::i32:
      return static_cast<uint32_t>(static_cast<const int32_t*>(x)[at]) ^ 0x80000000u;
    case DType::u8:
      return static_cast<const uint8_t*>(x)[at];
    default:
      return orderOf(static_cast<const float*>(x)[at]);
  }
}

// Writes what `record` stands for as element i of a line's result.
__device__ __forceinline__ void writeResult(const SortJob& job, int64_t line, int64_t i,
                                            Record record) {
  const int64_t position = static_cast<int64_t>(record & 0xffffffffu);
  if (job.indices.data != nullptr) {
    const int64_t to = job.indices.axes.at(line) + i * job.indices.step;
    static_cast<int32_t*>(job.indices.data)[to] = static_cast<int32_t>(position);
  }
  if (job.values.data == nullptr) return;
  const int64_t from = job.x.axes.at(line) + position * job.x.step,
                to = job.values.axes.at(line) + i * job.values.step;
  if (job.dtype == DType::u8) {
    static_cast<uint8_t*>(job.values.data)[to] = static_cast<const uint8_t*>(job.x.data)[from];
  } else if (job.dtype == DType::f16 || job.dtype == DType::bf16) {
    static_cast<uint16_t*>(job.values.data)[to] = static_cast<const uint16_t*>(job.x.data)[from];
  } else {
    static_cast<uint32_t*>(job.values.data)[to] = static_cast<const uint32_t*>(job.x.data)[from];
  }
}

// Sorts `size` records, a power of two, in shared memory by a bitonic network (Batcher 1968); ends
// with a barrier.
__device__ __forceinline__ void sortRecords(Record* records, int size) {
  for (int run = 2; run <= size; run *= 2) {
    for (int distance = run / 2; distance > 0; distance /= 2) {
      for (int i = threadIdx.x; i < size / 2; i += blockDim.x) {
        const int low = 2 * i - (i & (distance - 1)), high = low + distance;
        const Record a = records[low], b = records[high];
        if ((a > b) == ((low & run) == 0)) {
          records[low] = b;
          records[high] = a;
        }
      }
      __syncthreads();
    }
  }
}

// The first `keep` records of a full tile, sorted, in memory behind it. Of the groups' first
// records the one of rank `keep` bounds them: as many records as that are not beyond it, and only
// the groups of those have any. So at most keep * kPerGroup are left to sort, 1 to 2 times `keep`
// where the order is random.
__device__ __forceinline__ Record* selectRecords(Record* records, int keep) {
  Record* const bounds = records + kSortTile;
  Record* const found = bounds + kGroups;
  int* const count = reinterpret_cast<int*>(found + kFewest * kPerGroup);
  Record own = kNoRecord;
  for (int i = threadIdx.x; i < kSortTile; i += blockDim.x) own = min(own, records[i]);
  constexpr int kLanes = kSortThreads / kGroups;
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    own = min(own, shuffleXor(own, distance));
  }
  if (threadIdx.x % kLanes == 0) bounds[threadIdx.x / kLanes] = own;
  if (threadIdx.x == 0) *count = 0;
  __syncthreads();
  sortRecords(bounds, kGroups);
  const Record bound = bounds[keep - 1];
  for (int i = threadIdx.x; i < kSortTile; i += blockDim.x) {
    const Record r = records[i];
    if (r <= bound && r != kNoRecord) found[atomicAdd(count, 1)] = r;  // sorted below
  }
  __syncthreads();
  const int n = *count;
  int size = 2;
  while (size < n) size *= 2;
  for (int i = n + threadIdx.x; i < size; i += blockDim.x) found[i] = kNoRecord;
  __syncthreads();
  sortRecords(found, size);
  return found;
}

constexpr size_t selectionBytes() {
  return (kGroups + kFewest * kPerGroup) * sizeof(Record) + sizeof(int);
}

// How many of the first `diagonal` records of the merged a and b come from a.
template <class Index>
__device__ __forceinline__ Index shareOf(const Record* a, Index na, const Record* b, Index nb,
                                         Index diagonal) {
  Index low = max(Index{0}, diagonal - nb), high = min(diagonal, na);
  while (low < high) {
    const Index middle = (low + high) / 2;
    if (a[middle] < b[diagonal - 1 - middle]) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The records of the merged a and b from `diagonal` on.
__device__ __forceinline__ void mergeFrom(const Record* a, int na, const Record* b, int nb,
                                          int diagonal, Record (&merged)[kPerThread]) {
  int i = shareOf(a, na, b, nb, diagonal), j = diagonal - i;
#pragma unroll
  for (Record& m : merged) {
    const Record x = i < na ? a[i] : kNoRecord;
    const Record y = j < nb ? b[j] : kNoRecord;
    const bool takeX = x < y;
    m = takeX ? x : y;
    i += takeX;
    j += !takeX;
  }
}

// Sorts a tile in shared memory: each thread its own records by a network (odd-even transposition,
// Habermann 1972), then runs are merged pairwise. Ends with a barrier.
__device__ __forceinline__ void sortTile(Record* records, int tile) {
  const int own = static_cast<int>(threadIdx.x) * kPerThread;
  Record r[kPerThread];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kPerThread; ++k) r[k] = records[own + k];
#pragma unroll
  for (int round = 0; round < kPerThread; ++round) {
#pragma unroll
    for (int k = round % 2; k + 1 < kPerThread; k += 2) {
      const Record low = min(r[k], r[k + 1]), high = max(r[k], r[k + 1]);
      r[k] = low;
      r[k + 1] = high;
    }
  }
#pragma unroll
  for (int k = 0; k < kPerThread; ++k) records[own + k] = r[k];
  for (int run = kPerThread; run < tile; run *= 2) {
    __syncthreads();
    const int pair = own & -(2 * run);
    mergeFrom(records + pair, run, records + pair + run, run, own - pair, r);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kPerThread; ++k) records[own + k] = r[k];
  }
  __syncthreads();
}

// Sorts each tile of each line. Records come from `in`, `count` a line, or of the elements where it
// is null; the first `keep` of each tile go to `out`, or are the results where it is null.
__global__ void __launch_bounds__(kSortThreads)
    sortTiles(const __grid_constant__ SortJob job, const Record* in, Record* out, int64_t count,
              int64_t outCount, int64_t keep, int tile, bool selecting) {
  LONGSPAN_SHARED(shared);
  Record* records = reinterpret_cast<Record*>(shared);
  const int64_t tiles = (count + tile - 1) / tile, line = blockIdx.x / tiles,
                number = blockIdx.x - line * tiles, first = number * tile;
  const int here = static_cast<int>(min(static_cast<int64_t>(tile), count - first));
  const int64_t base = job.x.axes.at(line);
  for (int i = threadIdx.x; i < tile; i += blockDim.x) {
    Record r = kNoRecord;
    if (i < here && in != nullptr) r = in[line * count + first + i];
    if (i < here && in == nullptr) {
      const uint32_t order = orderAt(job.x.data, job.dtype, base + (first + i) * job.x.step);
      r = Record{job.descending ? ~order : order} << 32 | static_cast<Record>(first + i);
    }
    records[i] = r;
  }
  if (selecting) {
    records = selectRecords(records, static_cast<int>(keep));
  } else {
    sortTile(records, tile);
  }
  const int kept = static_cast<int>(min(static_cast<int64_t>(here), keep));
  for (int i = threadIdx.x; i < kept; i += blockDim.x) {
    if (out != nullptr) {
      out[line * outCount + number * keep + i] = records[i];
    } else {
      writeResult(job, line, i, records[i]);
    }
  }
}

// Merges runs of length `run` pairwise; a block makes one tile of the result, which is written out
// where `out` is null.
__global__ void __launch_bounds__(kSortThreads)
    mergeTiles(const __grid_constant__ SortJob job, const Record* in, Record* out, int64_t count,
               int64_t run) {
  LONGSPAN_SHARED(shared);
  Record* records = reinterpret_cast<Record*>(shared);
  int64_t* shares = reinterpret_cast<int64_t*>(records + kSortTile);
  const int64_t tiles = (count + kSortTile - 1) / kSortTile, line = blockIdx.x / tiles,
                first = (blockIdx.x - line * tiles) * kSortTile;
  const int64_t pair = first / (2 * run) * (2 * run);
  const Record* a = in + line * count + pair;
  const int64_t na = min(run, count - pair), nb = max(int64_t{0}, min(run, count - pair - run));
  const Record* b = a + na;
  const int64_t begin = first - pair, end = min(begin + kSortTile, na + nb);
  if (threadIdx.x % 32 == 0 && threadIdx.x < 64) {
    shares[threadIdx.x / 32] = shareOf(a, na, b, nb, threadIdx.x == 0 ? begin : end);
  }
  __syncthreads();
  const int64_t fromA = shares[0], fromB = begin - fromA;
  const int countA = static_cast<int>(shares[1] - fromA), here = static_cast<int>(end - begin),
            countB = here - countA;
  for (int i = threadIdx.x; i < here; i += kSortThreads) {
    records[i] = i < countA ? a[fromA + i] : b[fromB + i - countA];
  }
  __syncthreads();
  const int diagonal = min(static_cast<int>(threadIdx.x) * kPerThread, here);
  Record merged[kPerThread];
  mergeFrom(records, countA, records + countA, countB, diagonal, merged);
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kPerThread; ++k) {
    if (diagonal + k < here) records[diagonal + k] = merged[k];
  }
  __syncthreads();
  for (int k = threadIdx.x; k < here; k += kSortThreads) {
    if (out != nullptr) {
      out[line * count + first + k] = records[k];
    } else if (first + k < job.taken) {
      writeResult(job, line, first + k, records[k]);
    }
  }
}

bool selects(int64_t length, int64_t taken) { return length > kSortTile && taken <= kFew; }

// Records that selection keeps of a line of `count`.
int64_t survivors(int64_t count, int64_t taken) {
  return count / kSortTile * taken + std::min(count % kSortTile, taken);
}

Status sortTilesOf(const SortJob& job, const Record* in, Record* out, int64_t count,
                   int64_t outCount, int64_t keep, cudaStream_t stream) {
  int tile = 64;
  while (tile < kSortTile && tile < count) tile *= 2;
  const int64_t blocks = job.x.axes.count * ((count + tile - 1) / tile);
  const auto threads = static_cast<uint32_t>(tile / kPerThread);
  const bool selecting = tile == kSortTile && keep <= kFewest;
  const size_t bytes =
      static_cast<size_t>(tile) * sizeof(Record) + (selecting ? selectionBytes() : 0);
  return launched(launch(sortTiles, dim3(static_cast<uint32_t>(blocks)), dim3(threads), bytes,
                         stream, job, in, out, count, outCount, keep, tile, selecting));
}

Status select(const SortJob& job, Record* out, Record* other, cudaStream_t stream) {
  const Record* in = nullptr;
  int64_t count = job.x.length;
  while (count > kSortTile) {
    const int64_t next = survivors(count, job.taken);
    LONGSPAN_RETURN_IF_ERROR(sortTilesOf(job, in, out, count, next, job.taken, stream));
    in = out;
    std::swap(out, other);
    count = next;
  }
  return sortTilesOf(job, in, nullptr, count, 0, job.taken, stream);
}

}  // namespace

size_t sortWorkspace(int64_t lines, int64_t length, int64_t taken) {
  if (length <= kSortTile || taken == 0) return 0;
  const int64_t records = selects(length, taken) ? survivors(length, taken) : length;
  return static_cast<size_t>(2 * lines * records) * sizeof(Record);
}

Status sortLines(const SortJob& job, std::byte* workspace, cudaStream_t stream) {
  const int64_t lines = job.x.axes.count, length = job.x.length;
  if (lines == 0 || length == 0 || job.taken == 0) return {};
  if (length <= kSortTile) return sortTilesOf(job, nullptr, nullptr, length, 0, job.taken, stream);
  auto* out = reinterpret_cast<Record*>(workspace);
  if (selects(length, job.taken)) {
    return select(job, out, out + lines * survivors(length, job.taken), stream);
  }
  Record* in = out;
  out += lines * length;
  LONGSPAN_RETURN_IF_ERROR(sortTilesOf(job, nullptr, in, length, length, kSortTile, stream));
  const auto blocks = static_cast<uint32_t>(lines * ((length + kSortTile - 1) / kSortTile));
  for (int64_t run = kSortTile; run < length; run *= 2) {
    const bool last = 2 * run >= length;
    LONGSPAN_RETURN_IF_ERROR(launched(launch(mergeTiles, dim3(blocks), dim3(kSortThreads),
                                             kSortTile * sizeof(Record) + 2 * sizeof(int64_t),
                                             stream, job, in, last ? nullptr : out, length, run)));
    std::swap(in, out);
  }
  return {};
}

namespace {

Status sort(const ops::Sort& p, Context& context) {
  const int axis = static_cast<int>(p.axis);
  return sortLines({RowSet(p.x, axis), p.x.dtype, p.descending, p.x.shape[p.axis],
                    RowSet(p.values, axis), RowSet(p.indices, axis)},
                   context.workspace.data, context.stream);
}

Status topK(const ops::TopK& p, Context& context) {
  const int axis = static_cast<int>(p.axis);
  return sortLines({RowSet(p.x, axis), p.x.dtype, p.largest, p.k, RowSet(p.values, axis),
                    RowSet(p.indices, axis)},
                   context.workspace.data, context.stream);
}

int64_t linesOf(const TensorView& x, int64_t axis) {
  return Axes::of(x, static_cast<int>(axis)).count;
}
size_t workspaceOfSort(const ops::Sort& p, const Gpu&) {
  return sortWorkspace(linesOf(p.x, p.axis), p.x.shape[p.axis], p.x.shape[p.axis]);
}
size_t workspaceOfTopK(const ops::TopK& p, const Gpu&) {
  return sortWorkspace(linesOf(p.x, p.axis), p.x.shape[p.axis], p.k);
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Sort, sort, workspaceOfSort);
LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(TopK, topK, workspaceOfTopK);

}  // namespace
}  // namespace longspan::cuda
