// A new tensor with one value: one write per element. H200: 90 % of its write speed, about 4 TB/s.
// Right on an H200, not timed there.
#include "cpp/ops/dense/fill.h"
#include "cuda/element.h"
#include "cuda/elementwise.cuh"

namespace longspan::cuda {
namespace {

template <class U>
struct Constant {
  static constexpr int kViews = 1, kLanes = kLanesOf<U>;
  struct Loaded {};
  U* y;
  U value;

  __device__ __forceinline__ void load(const Walk<1, kLanes>&, const Place<1>&, Loaded&) const {}
  __device__ __forceinline__ void finish(const Walk<1, kLanes>& walk, const Place<1>& p,
                                         Loaded&) const {
    Vector<U, kLanes> out;
#pragma unroll
    for (int i = 0; i < kLanes; ++i) out.at[i] = value;
    storeGroup(walk, p, 0, y, out);
  }
};

}  // namespace

Status fill(const ops::Fill& p, Context& context) {
  return dispatchWideBits(sizeOf(p.y.dtype), [&](auto tag) {
    using U = typename decltype(tag)::type;
    const auto bits = static_cast<U>(elementBits(p.y.dtype, p.value));
    return elementwise(Constant<U>{p.y.data<U>(), bits}, {&p.y}, context);
  });
}

LONGSPAN_CUDA_OPERATOR_F64(Fill, fill);

}  // namespace longspan::cuda
