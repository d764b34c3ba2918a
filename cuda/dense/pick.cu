// What gather and indexSelect share: ids from the cache, elements by 16 bytes where an id names
// whole slices, one by one elsewhere. Speeds: see those files.
#include "cuda/dense/pick.h"
#include "cuda/element.h"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

template <class U>
struct Pick {
  static constexpr int kViews = 3, kLanes = kLanesOf<U>;
  struct Loaded {
    int32_t ids[kLanes];
  };
  const U* x;
  const int32_t* index;
  U* y;
  int64_t length, step;  // of the indexed axis of x

  __device__ __forceinline__ bool valid(int64_t id) const { return id >= 0 && id < length; }

  __device__ __forceinline__ void load(const Walk<3, kLanes>& walk, const Place<3>& p,
                                       Loaded& l) const {
    const int32_t* from = index + p.at[1];
    if (walk.access[1] == Access::splat) {
      l.ids[0] = *from;
      return;
    }
    const int64_t stride = walk.stride[1][0];
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      if (i < p.count) l.ids[i] = from[i * stride];
    }
  }
  __device__ __forceinline__ void finish(const Walk<3, kLanes>& walk, const Place<3>& p,
                                         Loaded& l) const {
    Vector<U, kLanes> out;
    const U* from = x + p.at[0];
    if (walk.access[1] == Access::splat && !valid(l.ids[0])) {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) out.at[i] = kNoElement<U>;
    } else if (walk.access[1] == Access::splat) {
      from += l.ids[0] * step;
      if (walk.access[0] == Access::vector && p.count == kLanes) {
        loadVector(from, out);
      } else {
#pragma unroll
        for (int i = 0; i < kLanes; ++i) {
          out.at[i] = U{0};
          if (i < p.count) out.at[i] = from[i * walk.stride[0][0]];
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        const int64_t id = l.ids[i];
        out.at[i] = kNoElement<U>;
        if (i < p.count && valid(id)) out.at[i] = from[i * walk.stride[0][0] + id * step];
      }
    }
    storeGroup(walk, p, 2, y, out);
  }
};

}  // namespace

Status pick(const TensorView& indexed, int64_t axis, const TensorView& x, const TensorView& index,
            const TensorView& y, Context& context) {
  return dispatchBits(sizeOf(y.dtype), [&](auto tag) {
    using U = typename decltype(tag)::type;
    using Op = Pick<U>;
    const Op op{indexed.data<U>(), index.data<int32_t>(), y.data<U>(), indexed.shape[axis],
                indexed.stride[axis]};
    WalkOf<Op> walk({&x, &index, &y});
    if (op.step % Op::kLanes != 0) walk.access[0] = Access::scattered;  // slices are not aligned
    return elementwise<1>(op, walk, context);
  });
}

}  // namespace longspan::cuda
