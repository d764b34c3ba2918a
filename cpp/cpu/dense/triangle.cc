#include "cpp/ops/dense/triangle.h"

#include <algorithm>

#include "cpp/cpu/axis_blocks.h"
#include "cpp/cpu/element.h"

namespace longspan::cpu {

Status triangle(const ops::Triangle& p, Context& context) {
  const int64_t rows = p.x.dim(-2), columns = p.x.dim(-1), step = p.x.strideOf(-1);
  const TensorView lines = sliceLayout(p.x, p.x.rank - 1, 1);
  if (p.x.numel() == 0) return {};
  withElement(p.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t grain = std::max<int64_t>(1, (1 << 15) / columns);
    context.pool.forRange(lines.numel(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t line = begin; line < end; ++line) {
        // Lower: columns up to row + diagonal. Upper: columns from there on.
        const int64_t middle = line % rows + p.diagonal;
        const int64_t from = p.upper ? std::clamp<int64_t>(middle, 0, columns) : 0;
        const int64_t to = p.upper ? columns : std::clamp<int64_t>(middle + 1, 0, columns);
        const T* x = p.x.data<T>() + offsetAlong(lines, 0, lines.rank, line);
        T* y = p.y.data<T>() + line * columns;
        std::fill(y, y + from, T{0});
        for (int64_t i = from; i < to; ++i) y[i] = x[i * step];
        std::fill(y + to, y + columns, T{0});
      }
    });
  });
  return {};
}

}  // namespace longspan::cpu
