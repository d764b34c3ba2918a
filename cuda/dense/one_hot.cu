// 1 at the place each id names, 0 elsewhere: one write of the result; the ids come from the cache.
// An id out of range gives NaN (see element.h). H200: 85 % of write speed in f32, 60 % in 16 bits.
// Right on an H200, not timed there.
#include "cpp/ops/dense/one_hot.h"
#include "cuda/any_element.cuh"
#include "cuda/element.h"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

struct Marks {
  static constexpr int kViews = 1, kLanes = 4;
  struct Loaded {};
  const int32_t* ids;
  Walk<1, 1> idAt;
  void* y;
  int bytes;  // of an element
  int64_t classes;
  uint32_t one;

  __device__ __forceinline__ void load(const Walk<1, kLanes>&, const Place<1>&, Loaded&) const {}
  __device__ __forceinline__ void finish(const Walk<1, kLanes>& walk, const Place<1>& p,
                                         Loaded&) const {
    int64_t row = p.index / classes, column = p.index - row * classes;
    int64_t id = ids[idAt.place(row).at[0]];
    uint32_t marks[kLanes];
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      if (i < p.count && column == classes) {  // a group may reach into the next rows
        column = 0;
        id = ids[idAt.place(++row).at[0]];
      }
      const bool bad = id < 0 || id >= classes;
      marks[i] = bad ? kNoElement<uint32_t> : column == id ? one : 0;
      ++column;
    }
    dispatchBits(bytes, [&](auto tag) {
      using U = typename decltype(tag)::type;
      Vector<U, kLanes> out;
#pragma unroll
      for (int i = 0; i < kLanes; ++i) out.at[i] = static_cast<U>(marks[i]);
      storeGroup(walk, p, 0, static_cast<U*>(y), out);
    });
  }
};

}  // namespace

Status oneHot(const ops::OneHot& p, Context& context) {
  const Marks marks{p.ids.data<int32_t>(),
                    Walk<1, 1>({&p.ids}),
                    AnyElements(p.y).data,
                    static_cast<int>(sizeOf(p.y.dtype)),
                    p.classes,
                    static_cast<uint32_t>(elementBits(p.y.dtype, 1))};
  return elementwise<1>(marks, {&p.y}, context);
}

LONGSPAN_CUDA_OPERATOR(OneHot, oneHot);

}  // namespace longspan::cuda
