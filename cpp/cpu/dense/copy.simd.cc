#include "cpp/ops/dense/copy.h"

#include "cpp/core/half.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

template <class From, class To>
void copyRun(const From* x, int64_t xs, To* y, int64_t ys, int64_t begin, int64_t end) {
  if (xs == 1 && ys == 1) {
    for (int64_t i = begin; i < end; ++i) y[i] = store<To>(load(x[i]));
  } else {
    for (int64_t i = begin; i < end; ++i) y[i * ys] = store<To>(load(x[i * xs]));
  }
}

void copyViews(const TensorView& x, const TensorView& y, ThreadPool& pool) {
  const StridedLoop<2> loop({&x, &y});
  const int64_t xs = loop.stride[0][loop.rank - 1], ys = loop.stride[1][loop.rank - 1];
  dispatchAny(x.dtype, [&](auto from) {
    using From = typename decltype(from)::type;
    dispatchAny(y.dtype, [&](auto to) {
      using To = typename decltype(to)::type;
      const From* source = x.data<From>();
      To* target = y.data<To>();
      loop.forEach(pool, 1 << 16, [&](std::array<int64_t, 2> at, int64_t begin, int64_t end) {
        copyRun(source + at[0], xs, target + at[1], ys, begin, end);
      });
    });
  });
}

}  // namespace

Status copy(const ops::Copy& p, Context& context) {
  copyViews(p.x, p.y, context.pool);
  return {};
}

Status assign(const ops::Assign& p, Context& context) {
  copyViews(p.x, p.y, context.pool);
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
