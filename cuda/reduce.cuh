// Reductions over the threads that share a row: a fraction of a warp, a warp, or a whole block.
// Every order of operations is fixed by the size of the team, so results repeat bit for bit.
#pragma once

#include "cuda/portable.cuh"

namespace longspan::cuda {

// Merging functions. Those of single numbers are commutative; pairs and moments are rounded
// differently when their operands are exchanged, which Team::all takes care of.
struct Add {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};

// NaN loses against a number.
struct Larger {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// Two sums at once.
struct Sums {
  float first, second;
};
struct AddSums {
  __device__ __forceinline__ Sums operator()(Sums a, Sums b) const {
    return {a.first + b.first, a.second + b.second};
  }
};

// sum of exp(x - top), top being the largest x, taken as 0 while that is -inf (Milakov and
// Gimelshein 2018, "Online normalizer calculation for softmax").
struct Exponentials {
  float top, sum;

  __device__ __forceinline__ static Exponentials none() { return {-INFINITY, 0}; }
  __device__ __forceinline__ float shift() const { return top == -INFINITY ? 0 : top; }
  // Nothing but -inf was seen.
  __device__ __forceinline__ bool empty() const { return top == -INFINITY && sum == 0; }
  __device__ __forceinline__ float logSum() const { return shift() + logf(sum); }
};
struct MergeExponentials {
  __device__ __forceinline__ Exponentials operator()(Exponentials a, Exponentials b) const {
    const Exponentials top{fmaxf(a.top, b.top), 0};
    const float shift = top.shift();
    return {top.top, a.sum * expf(a.top - shift) + b.sum * expf(b.top - shift)};
  }
};

// Count, mean and sum of squared distances from the mean (Chan, Golub and LeVeque 1979).
struct Moments {
  float count, mean, squares;
};
struct MergeMoments {
  __device__ __forceinline__ Moments operator()(Moments a, Moments b) const {
    const float count = a.count + b.count;
    if (count == 0) return a;
    const float distance = b.mean - a.mean, share = b.count / count;
    return {count, a.mean + distance * share,
            a.squares + b.squares + distance * distance * (a.count * share)};
  }
};

namespace detail {
template <class T>
struct Words {
  uint32_t at[sizeof(T) / 4];
};
}  // namespace detail

// The value of the lane whose number differs in the bits of `lanes`; for any plain struct.
template <class T>
__device__ __forceinline__ T shuffleXor(T x, int lanes) {
  if constexpr (sizeof(T) == 4 || sizeof(T) == 8) {
    using Word = std::conditional_t<sizeof(T) == 4, uint32_t, unsigned long long>;
    return bitCast<T>(__shfl_xor_sync(0xffffffffu, bitCast<Word>(x), lanes));
  } else {
    detail::Words<T> words = bitCast<detail::Words<T>>(x);
#pragma unroll
    for (uint32_t& word : words.at) word = __shfl_xor_sync(0xffffffffu, word, lanes);
    return bitCast<T>(words);
  }
}

template <class T>
__device__ __forceinline__ T shuffle(T x, int lane, int width = 32) {
  if constexpr (sizeof(T) == 4 || sizeof(T) == 8) {
    using Word = std::conditional_t<sizeof(T) == 4, uint32_t, unsigned long long>;
    return bitCast<T>(__shfl_sync(0xffffffffu, bitCast<Word>(x), lane, width));
  } else {
    detail::Words<T> words = bitCast<detail::Words<T>>(x);
#pragma unroll
    for (uint32_t& word : words.at) word = __shfl_sync(0xffffffffu, word, lane, width);
    return bitCast<T>(words);
  }
}

// The value of the lane `distance` below in a group of `width` lanes; the lowest keep their own.
template <class T>
__device__ __forceinline__ T shuffleUp(T x, int distance, int width) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  using Word = std::conditional_t<sizeof(T) == 4, uint32_t, unsigned long long>;
  return bitCast<T>(__shfl_up_sync(0xffffffffu, bitCast<Word>(x), distance, width));
}

// Merges groups of `lanes` neighbouring lanes (a power of two); every lane gets its group's result.
template <class T, class F>
__device__ __forceinline__ T mergeLanes(T x, int lanes, F merge) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    if (distance < lanes) x = merge(x, shuffleXor(x, distance));
  }
  // A struct's halves may have been merged in either order: the first lane's result counts.
  if constexpr (!std::is_arithmetic_v<T>) x = shuffle(x, 0, lanes < 32 ? lanes : 32);
  return x;
}

// Bytes of shared memory a block must give its team.
inline constexpr int kTeamScratch = 2 * 32 * 16;

// The threads that share a row: up to a warp of neighbouring lanes, or the whole block. All threads
// of the block call the members together.
struct Team {
  int size;          // a power of two
  int rank;          // of this thread
  uint8_t* scratch;  // kTeamScratch bytes
  int turn = 0;      // reductions alternate between two halves: one barrier each

  __device__ __forceinline__ Team(int teamSize, uint8_t* shared)
      : size(teamSize), rank(threadIdx.x & (teamSize - 1)), scratch(shared) {}

  template <class T, class F>
  __device__ __forceinline__ T all(T x, F merge) {
    static_assert(sizeof(T) <= 16);
    x = mergeLanes(x, size, merge);
    if (size > 32) {
      T* slots = nextSlots<T>();
      const int lane = rank % 32, warps = size / 32;
      if (lane == 0) slots[rank / 32] = x;
      __syncthreads();
      x = mergeLanes(slots[lane & (warps - 1)], warps, merge);
    }
    return x;
  }
  __device__ __forceinline__ float sum(float x) { return all(x, Add{}); }

  // The sum of x over the threads before this one, in their order; `total` becomes that of all.
  template <class T>
  __device__ __forceinline__ T before(T x, T& total) {
    const int lanes = size < 32 ? size : 32, lane = rank % 32;
    T upTo = x;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      if (distance >= size) continue;
      const T other = shuffleUp(upTo, distance, lanes);
      if (lane >= distance) upTo += other;
    }
    const T previous = shuffleUp(upTo, 1, lanes);
    T sum = lane == 0 ? T{} : previous;
    total = shuffle(upTo, lanes - 1, lanes);
    if (size > 32) {
      T* slots = nextSlots<T>();
      if (lane == 0) slots[rank / 32] = total;
      __syncthreads();
      T earlier{};
      total = T{};
      for (int warp = 0; warp < size / 32; ++warp) {
        if (warp == rank / 32) earlier = total;
        total += slots[warp];
      }
      sum += earlier;
    }
    return sum;
  }

 private:
  template <class T>
  __device__ __forceinline__ T* nextSlots() {
    T* slots = reinterpret_cast<T*>(scratch + turn * (kTeamScratch / 2));
    turn ^= 1;
    return slots;
  }
};

// The threads that share a column where neighbours in memory belong to different results: a block
// of kColumns x kSlices threads, each column cut into slices.
struct ColumnTeam {
  static constexpr int kColumns = 32, kSlices = 16, kThreads = kColumns * kSlices;

  int column, slice;
  uint8_t* scratch;  // kThreads values

  __device__ __forceinline__ explicit ColumnTeam(uint8_t* shared)
      : column(threadIdx.x % kColumns), slice(threadIdx.x / kColumns), scratch(shared) {}

  template <class T, class F>
  __device__ __forceinline__ T all(T x, F merge) {
    T* slots = reinterpret_cast<T*>(scratch);
    __syncthreads();
    slots[slice * kColumns + column] = x;
    __syncthreads();
    T result = slots[column];
#pragma unroll
    for (int i = 1; i < kSlices; ++i) result = merge(result, slots[i * kColumns + column]);
    return result;
  }
};

}  // namespace longspan::cuda
