#include <cstring>

#include "cpp/cpu/element.h"
#include "cpp/cpu/reduction.h"
#include "cpp/ops/dense/extremum.h"

namespace longspan::cpu {

Status extremumBackward(const ops::ExtremumBackward& p, Context& context) {
  const Reduction plan(p.gradX, p.axes);
  const int64_t bytes = p.gradX.bytes();
  std::byte* target = p.gradX.data<std::byte>();  // fresh, so its offset is 0
  context.pool.forRange(bytes, 1 << 20, [&](int64_t begin, int64_t end) {
    std::memset(target + begin, 0, static_cast<size_t>(end - begin));
  });
  Axes grads;
  for (int i = 0; i < p.gradY.rank; ++i) grads.add(p.gradY.shape[i], p.gradY.stride[i]);
  withElement(p.gradX.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    context.pool.forRange(plan.outputs(), 4096, [&](int64_t begin, int64_t end) {
      for (int64_t o = begin; o < end; ++o) {
        const int64_t at = plan.kept.at(o) + plan.reduced.at(p.index.data<int32_t>()[o]);
        p.gradX.data<T>()[at] = p.gradY.data<T>()[grads.at(o)];
      }
    });
  });
  return {};
}

}  // namespace longspan::cpu
