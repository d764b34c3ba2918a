#include "cpp/ops/dense/one_hot.h"

#include <algorithm>

#include "cpp/cpu/axis_blocks.h"
#include "cpp/cpu/element.h"
#include "cpp/cpu/indices.h"

namespace longspan::cpu {

Status oneHot(const ops::OneHot& p, Context& context) {
  BadIndex bad;
  withElement(p.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T one = elementBits<T>(p.y.dtype, 1);
    const int64_t grain = std::max<int64_t>(1, (1 << 16) / p.classes);
    context.pool.forRange(p.ids.numel(), grain, [&](int64_t begin, int64_t end) {
      T* y = p.y.data<T>();
      std::fill(y + begin * p.classes, y + end * p.classes, T{0});
      for (int64_t i = begin; i < end; ++i) {
        const int64_t id = p.ids.data<int32_t>()[offsetAlong(p.ids, 0, p.ids.rank, i)];
        if (id < 0 || id >= p.classes) {
          bad.record(i);
        } else {
          y[i * p.classes + id] = one;
        }
      }
    });
  });
  return bad.status("ids", p.ids, p.classes);
}

}  // namespace longspan::cpu
