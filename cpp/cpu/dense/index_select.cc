// Copies slices: 2 x element size bytes per element, whole runs at a time.
#include "cpp/ops/dense/index_select.h"

#include <cstring>

#include "cpp/cpu/axis_blocks.h"
#include "cpp/cpu/element.h"
#include "cpp/cpu/indices.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu {

Status indexSelect(const ops::IndexSelect& p, Context& context) {
  const TensorView from = sliceLayout(p.x, p.axis, 1), to = sliceLayout(p.y, p.axis, p.ids.rank);
  const StridedLoop<2> loop({&from, &to});
  const int64_t inner = loop.innerLength(), runs = loop.runs(), length = p.x.shape[p.axis];
  const int64_t xs = loop.stride[0][loop.rank - 1], ys = loop.stride[1][loop.rank - 1];
  if (inner == 0 || runs == 0) return {};
  BadIndex bad;
  withElement(p.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* x = p.x.data<T>();
    T* y = p.y.data<T>();
    const int64_t grain = std::max<int64_t>(1, (1 << 14) / inner);
    context.pool.forRange(p.ids.numel() * runs, grain, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t position = item / runs;
        const int64_t id = p.ids.data<int32_t>()[offsetAlong(p.ids, 0, p.ids.rank, position)];
        if (id < 0 || id >= length) {
          bad.record(position);
          continue;
        }
        const auto at = loop.offsets(item % runs);
        const T* source = x + at[0] + id * p.x.stride[p.axis];
        T* target = y + at[1] + offsetAlong(p.y, p.axis, p.ids.rank, position);
        if (xs == 1 && ys == 1) {
          std::memcpy(target, source, static_cast<size_t>(inner) * sizeof(T));
        } else {
          for (int64_t i = 0; i < inner; ++i) target[i * ys] = source[i * xs];
        }
      }
    });
  });
  return bad.status("ids", p.ids, length);
}

}  // namespace longspan::cpu
