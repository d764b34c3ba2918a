#include "cpp/ops/dense/fill.h"

#include <algorithm>

#include "cpp/core/half.h"

namespace longspan::cpu {

Status fill(const ops::Fill& p, Context& context) {
  dispatchAny(p.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T value = store<T>(p.value);
    T* y = p.y.data<T>();
    context.pool.forRange(p.y.numel(), 1 << 18, [&](int64_t begin, int64_t end) {
      std::fill(y + begin, y + end, value);
    });
  });
  return {};
}

}  // namespace longspan::cpu
