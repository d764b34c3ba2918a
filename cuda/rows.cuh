// Rows along one axis of a tensor, shared out to teams of threads.
//
// A thread holds kElements of a row in registers: runs of 16 bytes, one after another for
// neighbouring threads. Where a row is contiguous and a run aligned, it is moved in one access.
// Rows longer than a team's registers are taken tile by tile.
#pragma once

#include "cpp/core/tensor_view.h"
#include "cuda/dispatch.cuh"
#include "cuda/reduce.cuh"
#include "cuda/walk.cuh"

namespace longspan::cuda {

// Neighbouring elements of one access.
template <class T>
inline constexpr int kRun = 16 / static_cast<int>(sizeof(T));

template <class T>
T* addressOf(const TensorView& t) {
  return reinterpret_cast<T*>(t.base + t.offset * static_cast<int64_t>(sizeOf(t.dtype)));
}

inline bool aligned16(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0;
}

// Axes of a strided walk in row-major order, merged where memory allows. One view, any index: what
// Walk (walk.cuh) is for several views that move together.
struct Axes {
  int rank = 0;
  bool narrow = true;  // 32-bit indices suffice
  int64_t count = 1;
  int64_t shape[kMaxRank] = {}, stride[kMaxRank] = {};
  Divisor by[kMaxRank];

  void add(int64_t length, int64_t step) {
    count *= length;
    narrow = count < int64_t{1} << 31;
    if (length == 1) return;
    if (rank > 0 && stride[rank - 1] == step * length) {
      shape[rank - 1] *= length;
      stride[rank - 1] = step;
    } else {
      shape[rank] = length;
      stride[rank++] = step;
    }
    if (narrow && count > 0) by[rank - 1] = Divisor(shape[rank - 1]);
  }
  static Axes of(const TensorView& t, int withoutAxis = -1) {
    Axes axes;
    for (int i = 0; i < t.rank; ++i) {
      if (i != withoutAxis) axes.add(t.shape[i], t.stride[i]);
    }
    return axes;
  }
  int64_t inner() const { return rank > 0 ? shape[rank - 1] : 1; }
  int64_t innerStride() const { return rank > 0 ? stride[rank - 1] : 1; }
  // Of the first `axes` axes.
  bool stridesDivideBy(int64_t n, int axes) const {
    for (int i = 0; i < axes; ++i) {
      if (stride[i] % n != 0) return false;
    }
    return true;
  }

  __device__ __forceinline__ int64_t at(int64_t index) const {
    if (rank == 0) return 0;
    int64_t offset = 0;
    for (int i = rank - 1; i > 0; --i) {
      const int64_t next = narrow ? by[i].quotient(static_cast<uint32_t>(index)) : index / shape[i];
      offset += (index - next * shape[i]) * stride[i];
      index = next;
    }
    return offset + index * stride[0];
  }
};

// All rows of a tensor along an axis. A kernel's argument.
struct RowSet {
  void* data = nullptr;  // null: absent
  Axes axes;             // the others: a row each
  int64_t length = 0, step = 1;
  bool wide = false;  // runs may be moved in accesses of 16 bytes

  RowSet() = default;
  explicit RowSet(const TensorView& t, int axis = -1) {
    if (!t.defined()) return;
    if (axis < 0) axis += t.rank;
    const int64_t run = 16 / static_cast<int64_t>(sizeOf(t.dtype));
    data = addressOf<void>(t);
    axes = Axes::of(t, axis);
    length = t.shape[axis];
    step = t.stride[axis];
    wide =
        step == 1 && length % run == 0 && aligned16(data) && axes.stridesDivideBy(run, axes.rank);
  }
  // Neighbours in memory belong to different rows: threads had better take a row each.
  bool across() const {
    const auto distance = [](int64_t x) { return x < 0 ? -x : x; };
    return axes.inner() >= 8 && axes.rank > 0 && distance(axes.innerStride()) < distance(step);
  }
};

// One row on the device; beyond the last row an empty one. kAligned: known to be wide, which spares
// the code, and above all the registers, of the general way.
template <class T, bool kAligned = false>
struct Row {
  T* data;
  int64_t length, step;

  __device__ __forceinline__ Row(const RowSet& set, int64_t row)
      : data(static_cast<T*>(set.data) + set.axes.at(row < set.axes.count ? row : 0)),
        length(row < set.axes.count ? set.length : 0),
        step(set.step) {}

  // Elements between the 16-byte boundary before the row and the row. Tiles that begin so much
  // earlier than the row are moved in accesses of 16 bytes but for the row's ends.
  __device__ __forceinline__ int64_t skew() const {
    if (kAligned || step != 1) return 0;
    return reinterpret_cast<uintptr_t>(data) / sizeof(T) % kRun<T>;
  }
  // Runs of the tile that begins at `first` are one access each.
  __device__ __forceinline__ bool inRuns(int64_t first) const {
    return kAligned || (step == 1 && (skew() + first) % kRun<T> == 0);
  }
};

// Widened to what arithmetic is done in.
template <class A, class T>
__device__ __forceinline__ A widen(T x) {
  if constexpr (std::is_same_v<A, float>) {
    return toFloat(x);
  } else {
    return static_cast<A>(x);
  }
}

// to[0, n) = from[0, n), in accesses of at most 16 bytes; n may be the run of another type.
template <class T, int n, class A>
__device__ __forceinline__ void loadRun(const T* from, A* to) {
  constexpr int kPiece = n < kRun<T> ? n : kRun<T>;
#pragma unroll
  for (int piece = 0; piece < n; piece += kPiece) {
    Vector<T, kPiece> v;
    loadVector(from + piece, v);
#pragma unroll
    for (int j = 0; j < kPiece; ++j) to[piece + j] = widen<A>(v.at[j]);
  }
}

// The same where `present`, else n times `fill`: what is missing is filled before it is widened, so
// that no branch stands around the widening.
template <class T, int n, class A>
__device__ __forceinline__ void loadRunOr(const T* from, bool present, T fill, A* to) {
  constexpr int kPiece = n < kRun<T> ? n : kRun<T>;
#pragma unroll
  for (int piece = 0; piece < n; piece += kPiece) {
    Vector<T, kPiece> v;
    if constexpr (detail::kInWords<T, kPiece>) {
      detail::WordsOf<kPiece> words;
#pragma unroll
      for (uint32_t& word : words.at) word = bitCast<uint16_t>(fill) * 0x10001u;
      if (present) {
        loadVector(from + piece, v);
        words = bitCast<detail::WordsOf<kPiece>>(v);
      }
      v = bitCast<Vector<T, kPiece>>(words);
    } else {
#pragma unroll
      for (T& x : v.at) x = fill;
      if (present) loadVector(from + piece, v);
    }
#pragma unroll
    for (int j = 0; j < kPiece; ++j) to[piece + j] = widen<A>(v.at[j]);
  }
}

// Where in a tile the run lies that a thread holds from its register k on.
__device__ __forceinline__ int placeOfRun(const Team& team, int k, int run) {
  return k * team.size + team.rank * run;
}

// Which elements of the run of n that begins at `at` the row has, in 32 bits: a kernel that tests
// each of them with 64-bit indices runs out of registers.
struct Within {
  int begin, end;
  __device__ __forceinline__ Within(int64_t at, int64_t length, int n)
      : begin(at < 0 ? static_cast<int>(-at) : 0),
        end(at >= length      ? 0
            : length - at < n ? static_cast<int>(length - at)
                              : n) {}
  __device__ __forceinline__ bool has(int j) const { return j >= begin && j < end; }
};

// The row's elements from `at` on, a run of them; `fill` for those it does not have.
template <class T, bool kAligned>
__device__ __forceinline__ void loadRow(const Row<T, kAligned>& row, int64_t at, bool inRuns,
                                        float* to, float fill) {
  constexpr int kWide = kRun<T>;
  if constexpr (kAligned) {
    loadRunOr<T, kWide>(row.data + at, at < row.length, fromFloat<T>(fill), to);
  } else if (inRuns && at >= 0 && at + kWide <= row.length) {
    loadRun<T, kWide>(row.data + at, to);
  } else {
    const Within within(at, row.length, kWide);
    const T* from = row.data + at * row.step;
#pragma unroll
    for (int j = 0; j < kWide; ++j, from += row.step) {
      to[j] = fill;
      if (within.has(j)) to[j] = toFloat(*from);
    }
  }
}

// The thread's part of the tile that begins at element `first`; `fill` where there is no element.
template <class T, bool kAligned, int kElements>
__device__ __forceinline__ void loadTile(const Row<T, kAligned>& row, int64_t first,
                                         const Team& team, float (&to)[kElements], float fill = 0) {
  constexpr int kWide = kRun<T>;
  const bool inRuns = row.inRuns(first);
#pragma unroll
  for (int k = 0; k < kElements; k += kWide) {
    loadRow(row, first + placeOfRun(team, k, kWide), inRuns, to + k, fill);
  }
}

// Rounds the thread's part of a tile into the row.
template <class T, bool kAligned, int kElements>
__device__ __forceinline__ void storeTile(const Row<T, kAligned>& row, int64_t first,
                                          const Team& team, const float (&from)[kElements]) {
  constexpr int kWide = kRun<T>;
  const bool inRuns = row.inRuns(first);
#pragma unroll
  for (int k = 0; k < kElements; k += kWide) {
    const int64_t at = first + placeOfRun(team, k, kWide);
    if (inRuns && at < row.length && (kAligned || (at >= 0 && at + kWide <= row.length))) {
      Vector<T, kWide> v;
#pragma unroll
      for (int j = 0; j < kWide; ++j) v.at[j] = fromFloat<T>(from[k + j]);
      storeVector(row.data + at, v);
    } else if constexpr (!kAligned) {
      const Within within(at, row.length, kWide);
      T* to = row.data + at * row.step;
#pragma unroll
      for (int j = 0; j < kWide; ++j, to += row.step) {
        if (within.has(j)) *to = fromFloat<T>(from[k + j]);
      }
    }
  }
}

// f(register k, element of the row) for what of a tile lies in the row. kAligned: of a run all or
// nothing does.
template <class T, int kElements, bool kAligned = false, class F>
__device__ __forceinline__ void eachOfTile(int64_t length, int64_t first, const Team& team, F&& f) {
  constexpr int kWide = kRun<T>;
#pragma unroll
  for (int k = 0; k < kElements; k += kWide) {
    const int64_t at = first + placeOfRun(team, k, kWide);
    if constexpr (kAligned) {
      if (at >= length) continue;
#pragma unroll
      for (int j = 0; j < kWide; ++j) f(k + j, at + j);
    } else {
      const Within within(at, length, kWide);
#pragma unroll
      for (int j = 0; j < kWide; ++j) {
        if (within.has(j)) f(k + j, at + j);
      }
    }
  }
}

// How rows are shared out, by the length of a row alone: a team per row.
struct Teams {
  static constexpr int kMost = 512;   // threads of a team
  static constexpr int kBlock = 128;  // threads of a block of small teams

  int size;      // threads per row
  int perBlock;  // rows at a time in a block

  Teams(int64_t length, int perThread) {
    size = 4;
    while (size < kMost && static_cast<int64_t>(size) * perThread < length) size *= 2;
    perBlock = size <= 32 ? kBlock / size : 1;
  }
  int threads() const { return size * perBlock; }
  dim3 block() const { return dim3(static_cast<uint32_t>(threads())); }
  // One row per team. No tensor has so many rows that these blocks exceed the grid's x axis.
  dim3 grid(int64_t rows) const {
    return dim3(static_cast<uint32_t>((rows + perBlock - 1) / perBlock));
  }
};

// The calling thread's team in its block, and its row where each team has one.
__device__ __forceinline__ int teamInBlock(const Team& team) {
  return static_cast<int>(threadIdx.x) / team.size;
}
__device__ __forceinline__ int64_t rowOfTeam(const Team& team) {
  return static_cast<int64_t>(blockIdx.x) * (blockDim.x / team.size) + teamInBlock(team);
}

// Calls f(std::bool_constant) for kernels that have a form for aligned rows.
template <class F>
decltype(auto) withAlignment(bool aligned, F&& f) {
  return aligned ? f(std::true_type{}) : f(std::false_type{});
}

}  // namespace longspan::cuda
