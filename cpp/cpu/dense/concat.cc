#include "cpp/ops/dense/concat.h"

#include <cstring>

#include "cpp/cpu/element.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu {

Status concat(const ops::Concat& p, Context& context) {
  withElement(p.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    int64_t start = 0;
    for (const TensorView& x : p.tensors) {
      TensorView window = p.y;
      window.shape = x.shape;
      window.offset += start * p.y.stride[p.axis];
      start += x.shape[p.axis];
      const StridedLoop<2> loop({&x, &window});
      const int64_t xs = loop.stride[0][loop.rank - 1], ys = loop.stride[1][loop.rank - 1];
      loop.forEach(context.pool, 1 << 16,
                   [&](std::array<int64_t, 2> at, int64_t begin, int64_t end) {
                     const T* source = x.data<T>() + at[0];
                     T* target = window.data<T>() + at[1];
                     if (xs == 1 && ys == 1) {
                       std::memcpy(target + begin, source + begin,
                                   static_cast<size_t>(end - begin) * sizeof(T));
                     } else {
                       for (int64_t i = begin; i < end; ++i) target[i * ys] = source[i * xs];
                     }
                   });
    }
  });
  return {};
}

}  // namespace longspan::cpu
