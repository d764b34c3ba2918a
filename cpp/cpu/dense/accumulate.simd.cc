#include "cpp/ops/dense/accumulate.h"

#include "cpp/core/half.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

Status accumulate(const ops::Accumulate& p, Context& context) {
  const StridedLoop<3> loop({&p.a, &p.b, &p.y});
  const int inner = loop.rank - 1;
  const int64_t as = loop.stride[0][inner], bs = loop.stride[1][inner], ys = loop.stride[2][inner];
  dispatchFloating(p.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    loop.forEach(context.pool, 1 << 16, [&](std::array<int64_t, 3> at, int64_t begin, int64_t end) {
      const T* a = p.a.data<T>() + at[0];
      const T* b = p.b.data<T>() + at[1];
      T* y = p.y.data<T>() + at[2];
      if (as == 1 && bs == 1 && ys == 1) {
        for (int64_t i = begin; i < end; ++i) y[i] = store<T>(load(a[i]) + load(b[i]));
      } else {
        for (int64_t i = begin; i < end; ++i)
          y[i * ys] = store<T>(load(a[i * as]) + load(b[i * bs]));
      }
    });
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
