// Walking several strided views of one shape together, in groups of neighbours along the innermost
// axis. Axes are merged where all views allow it, so that contiguous data is one line of groups
// that are moved by accesses of up to 16 bytes, and a broadcast operand is read once per group. The
// plan is made on the host and passed to the kernel by value.
#pragma once

#include <array>

#include "cpp/core/tensor_view.h"
#include "cuda/portable.cuh"

namespace longspan::cuda {

// Quotients of indices below 2^31 by one multiplication (Granlund and Montgomery 1994, figure 4.1).
struct Divisor {
  uint32_t value = 1, magic = 1, shift = 0;

  Divisor() = default;
  explicit Divisor(int64_t divisor) : value(static_cast<uint32_t>(divisor)) {
    while (int64_t{1} << shift < divisor) ++shift;
    const uint64_t excess = (uint64_t{1} << shift) - value;
    magic = static_cast<uint32_t>((excess << 32) / value + 1);
  }
  __device__ __forceinline__ uint32_t quotient(uint32_t n) const {
    return (__umulhi(n, magic) + n) >> shift;
  }
};

// How the elements of a group lie in a view.
enum class Access : uint8_t {
  vector,    // next to each other and aligned: one access
  splat,     // all the same one
  scattered  // one access each
};

// Where a group begins in each view, and how many elements it has.
template <int N>
struct Place {
  int64_t at[N];
  int64_t index;  // of the first element, row-major
  int count;
};

// N views, groups of up to kLanes elements.
template <int N, int kLanes>
struct Walk {
  static constexpr int64_t kNarrow = int64_t{1} << 31;

  int64_t groups = 0;
  int64_t inner = 1;         // elements of the innermost axis
  int64_t groupsPerRun = 1;  // groups of it
  int outer = 0;             // axes beyond it
  bool narrow = true;        // 32-bit indices suffice
  bool dense = false;        // one line of vectors and splats
  Divisor perRun, size[kMaxRank];
  int64_t shape[kMaxRank] = {};      // of the outer axes, from the inside out
  int64_t stride[N][kMaxRank] = {};  // [0]: the innermost axis, [1 + i]: outer axis i
  Access access[N] = {};

  // Views must have one shape; broadcast operands have stride 0. A view without an address (a
  // number in place of an operand) is never read.
  explicit Walk(const std::array<const TensorView*, N>& views) {
    int rank = 0;
    int64_t lengths[kMaxRank] = {}, steps[N][kMaxRank] = {};
    const TensorView& first = *views[0];
    for (int axis = 0; axis < first.rank; ++axis) {
      if (first.shape[axis] == 1) continue;
      bool merge = rank > 0;
      for (int n = 0; n < N && merge; ++n) {
        merge = steps[n][rank - 1] == views[n]->stride[axis] * first.shape[axis];
      }
      if (merge) {
        lengths[rank - 1] *= first.shape[axis];
      } else {
        lengths[rank++] = first.shape[axis];
      }
      for (int n = 0; n < N; ++n) steps[n][rank - 1] = views[n]->stride[axis];
    }
    if (rank == 0) lengths[rank++] = 1;  // a single element
    outer = rank - 1;
    inner = lengths[rank - 1];
    groupsPerRun = (inner + kLanes - 1) / kLanes;
    groups = groupsPerRun;
    for (int i = 0; i < outer; ++i) {
      shape[i] = lengths[rank - 2 - i];
      groups *= shape[i];
    }
    narrow = groups < kNarrow;
    if (narrow && groups > 0) {
      perRun = Divisor(groupsPerRun);
      for (int i = 0; i < outer; ++i) size[i] = Divisor(shape[i]);
    }
    for (int n = 0; n < N; ++n) {
      for (int i = 0; i < rank; ++i) stride[n][i] = steps[n][rank - 1 - i];
      access[n] = accessTo(*views[n], n);
    }
    dense = outer == 0 && inner % kLanes == 0;
    for (const Access a : access) dense = dense && a != Access::scattered;
  }

  __device__ __forceinline__ Place<N> place(int64_t group) const {
    Place<N> p;
    if (dense) {
      p.index = group * kLanes;
      p.count = kLanes;
#pragma unroll
      for (int n = 0; n < N; ++n) p.at[n] = stride[n][0] == 0 ? 0 : p.index;
      return p;
    }
    int64_t run = 0, first = group;
    if (outer > 0) {
      run = narrow ? perRun.quotient(static_cast<uint32_t>(group)) : group / groupsPerRun;
      first = group - run * groupsPerRun;
    }
    first *= kLanes;
    p.index = run * inner + first;
    p.count = inner - first < kLanes ? static_cast<int>(inner - first) : kLanes;
#pragma unroll
    for (int n = 0; n < N; ++n) p.at[n] = first * stride[n][0];
#pragma unroll 1
    for (int i = 0; i < outer; ++i) {
      const int64_t next = narrow ? size[i].quotient(static_cast<uint32_t>(run)) : run / shape[i];
      const int64_t at = run - next * shape[i];
      run = next;
#pragma unroll
      for (int n = 0; n < N; ++n) p.at[n] += at * stride[n][1 + i];
    }
    return p;
  }

 private:
  Access accessTo(const TensorView& view, int n) const {
    if (stride[n][0] == 0 && inner > 1) return Access::splat;
    const auto address = reinterpret_cast<uintptr_t>(view.base) +
                         static_cast<uintptr_t>(view.offset) * sizeOf(view.dtype);
    bool aligned = stride[n][0] == 1 && address % (kLanes * sizeOf(view.dtype)) == 0;
    for (int i = 0; i < outer; ++i) aligned = aligned && stride[n][1 + i] % kLanes == 0;
    return aligned ? Access::vector : Access::scattered;
  }
};

namespace detail {
template <size_t bytes>
using BitsOf = std::conditional_t<
    bytes == 16, uint4,
    std::conditional_t<bytes == 8, uint2,
                       std::conditional_t<bytes == 4, uint32_t,
                                          std::conditional_t<bytes == 2, uint16_t, uint8_t>>>>;
}  // namespace detail

// A vector from or to its aligned place, in one access.
template <class T, int kLanes>
__device__ __forceinline__ void loadVector(const T* from, Vector<T, kLanes>& to) {
  using Bits = detail::BitsOf<sizeof(T) * kLanes>;
  const Bits bits = *reinterpret_cast<const Bits*>(from);
  to = bitCast<Vector<T, kLanes>>(bits);
}
template <class T, int kLanes>
__device__ __forceinline__ void storeVector(T* to, const Vector<T, kLanes>& from) {
  using Bits = detail::BitsOf<sizeof(T) * kLanes>;
  const Bits bits = bitCast<Bits>(from);
  *reinterpret_cast<Bits*>(to) = bits;
}

namespace detail {
// A vector of 16-bit elements is put together from words: of its halves, each in a register of its
// own, the compiler makes moves wherever ways of loading it meet.
template <class T, int kLanes>
inline constexpr bool kInWords = sizeof(T) == 2 && kLanes % 2 == 0;
template <int kLanes>
struct WordsOf {
  uint32_t at[kLanes / 2];
};
}  // namespace detail

// The first n elements from x, `step` apart, in one access where `vector` allows; others are T{}.
template <class T, int kLanes>
__device__ __forceinline__ void loadLanes(const T* x, int64_t step, int n, bool vector,
                                          Vector<T, kLanes>& to) {
  if constexpr (detail::kInWords<T, kLanes>) {
    detail::WordsOf<kLanes> words;
    if (vector) {
      Vector<T, kLanes> all;
      loadVector(x, all);
      words = bitCast<detail::WordsOf<kLanes>>(all);
    } else {
#pragma unroll
      for (int i = 0; i < kLanes; i += 2) {
        T low{}, high{};
        if (i < n) low = x[i * step];
        if (i + 1 < n) high = x[(i + 1) * step];
        words.at[i / 2] = bitCast<uint16_t>(low) | uint32_t{bitCast<uint16_t>(high)} << 16;
      }
    }
    to = bitCast<Vector<T, kLanes>>(words);
  } else if (vector) {
    loadVector(x, to);
  } else {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      to.at[i] = T{};
      if (i < n) to.at[i] = x[i * step];
    }
  }
}
template <class T, int kLanes>
__device__ __forceinline__ void storeLanes(T* y, int64_t step, int n, bool vector,
                                           const Vector<T, kLanes>& from) {
  if (vector) {
    storeVector(y, from);
  } else {
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      if (i < n) y[i * step] = from.at[i];
    }
  }
}

// The group's elements in view n, whose first element is *x; elements beyond its count are T{}.
template <class T, int N, int kLanes>
__device__ __forceinline__ void loadGroup(const Walk<N, kLanes>& walk, const Place<N>& p, int n,
                                          const T* x, Vector<T, kLanes>& to) {
  x += p.at[n];
  if (walk.access[n] == Access::splat) {
    const T one = *x;
    if constexpr (detail::kInWords<T, kLanes>) {
      detail::WordsOf<kLanes> words;
#pragma unroll
      for (uint32_t& word : words.at) word = bitCast<uint16_t>(one) * 0x10001u;
      to = bitCast<Vector<T, kLanes>>(words);
    } else {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) to.at[i] = one;
    }
  } else {
    loadLanes(x, walk.stride[n][0], p.count, walk.access[n] == Access::vector && p.count == kLanes,
              to);
  }
}

template <class T, int N, int kLanes>
__device__ __forceinline__ void storeGroup(const Walk<N, kLanes>& walk, const Place<N>& p, int n,
                                           T* y, const Vector<T, kLanes>& from) {
  y += p.at[n];
  storeLanes(y, walk.stride[n][0], p.count, walk.access[n] == Access::vector && p.count == kLanes,
             from);
}

}  // namespace longspan::cuda
