// The kernel of every operator that treats elements one by one. Such an operator is a small struct:
//
//   struct Axpy {
//     static constexpr int kViews = 2, kLanes = 4;  // operands and results; elements per group
//     struct Loaded { Vector<float, kLanes> x; };
//     const float* x; float* y; float a;
//     // Fetches what a group needs, without arithmetic, so that several fetches are under way.
//     __device__ __forceinline__ void load(const AxpyWalk& walk, const Place<2>& p, Loaded& l)
//     const;
//     // Computes the results and writes them.
//     __device__ __forceinline__ void finish(const AxpyWalk& walk, const Place<2>& p, Loaded& l)
//     const;
//   };
//
// Cost: the bytes of all operands and results, once. A thread has two groups under way, one of them
// being computed where the operator computes: 1024 threads and more per multiprocessor keep 32 KiB
// in flight, which covers the latency of HBM. About 90 % of copy speed is expected of an H200
// unless instructions limit it: beside those of the operator a group costs about 55 (counted in
// SASS for sm_90a). The loop that fetches ahead, and the short way of walk.cuh for contiguous
// views, have not yet run on hardware; operators whose files call them right on an H200 ran in the
// form before.
#pragma once

#include <algorithm>

#include "cuda/context.h"
#include "cuda/dispatch.cuh"
#include "cuda/ptx.cuh"
#include "cuda/walk.cuh"

namespace longspan::cuda {

inline constexpr int kThreads = 256;  // of a block, where nothing else is said

// Blocks for `items` of work that a grid-stride loop shares out: enough to fill the GPU many times
// over, so that its end is not waited for, and few enough that starting them costs nothing.
inline uint32_t blocksFor(int64_t items, const Gpu& gpu, int perBlock = kThreads) {
  const int64_t most = int64_t{64} * std::max(gpu.multiprocessors, 1);
  return static_cast<uint32_t>(std::min((items + perBlock - 1) / perBlock, most));
}

// The calling thread's place in the grid, and the step of a grid-stride loop.
__device__ __forceinline__ int64_t gridThread() {
  return int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t gridThreads() { return int64_t{gridDim.x} * blockDim.x; }

// Elements of which the widest type fills 16 bytes.
template <class... T>
inline constexpr int kLanesOf = 16 / static_cast<int>(std::max({sizeof(T)...}));

template <class Op>
using WalkOf = Walk<Op::kViews, Op::kLanes>;

// What an operator has loaded, from one round of a loop to the next.
template <class T>
struct Carried {
  static constexpr bool kWhole = sizeof(T) % 4 == 0;
  struct Words {
    uint32_t at[kWhole ? sizeof(T) / 4 : 1];
  };
  std::conditional_t<kWhole, Words, T> held{};

  __device__ __forceinline__ T get() const { return bitCast<T>(held); }
  __device__ __forceinline__ void set(const T& x) {
    held = bitCast<decltype(held)>(x);
    if constexpr (kWhole) {
#pragma unroll
      for (uint32_t& word : held.at) ptx::keepWhole(word);
    }
  }
};

// Light operators take two groups at a time; one whose arithmetic needs the registers takes one,
// and fetches the next before it computes.
template <class Op, int kAtOnce>
__global__ void __launch_bounds__(kThreads)
    elementwiseKernel(const __grid_constant__ Op op, const __grid_constant__ WalkOf<Op> walk) {
  const int64_t step = gridThreads();
  if constexpr (kAtOnce == 1) {
    Place<Op::kViews> p{};
    Carried<typename Op::Loaded> held;
    bool fetched = false;  // p and l are of a group that is still to be computed
    for (int64_t group = gridThread();; group += step) {
      const bool more = group < walk.groups;
      auto next = p;
      typename Op::Loaded m{};
      if (more) {
        next = walk.place(group);
        op.load(walk, next, m);
      }
      if (fetched) {
        typename Op::Loaded l = held.get();
        op.finish(walk, p, l);
      }
      if (!more) return;
      p = next;
      held.set(m);
      fetched = true;
    }
  } else {
    for (int64_t group = gridThread(); group < walk.groups; group += kAtOnce * step) {
      const bool both = group + step < walk.groups;  // else the same one is loaded twice
      const auto p = walk.place(group), q = walk.place(both ? group + step : group);
      typename Op::Loaded l{}, m{};
      op.load(walk, p, l);
      op.load(walk, q, m);
      op.finish(walk, p, l);
      if (both) op.finish(walk, q, m);
    }
  }
}

// Runs `op` over a walk.
template <int kAtOnce = 2, class Op>
Status elementwise(const Op& op, const WalkOf<Op>& walk, Context& context) {
  static_assert(kAtOnce == 1 || kAtOnce == 2);
  if (walk.groups == 0) return {};
  const uint32_t blocks = blocksFor((walk.groups + kAtOnce - 1) / kAtOnce, context.gpu);
  return launched(launch(elementwiseKernel<Op, kAtOnce>, dim3(blocks), dim3(kThreads), 0,
                         context.stream, op, walk));
}

// Runs `op` over views of one shape, in the order of the indices it uses.
template <int kAtOnce = 2, class Op>
Status elementwise(const Op& op, const std::array<const TensorView*, Op::kViews>& views,
                   Context& context) {
  return elementwise<kAtOnce>(op, WalkOf<Op>(views), context);
}

// Stands for an operand that is a number: the shape of y, never read.
inline TensorView numberLike(const TensorView& y) {
  TensorView view = y;
  view.stride.fill(0);
  return view;
}

}  // namespace longspan::cuda
