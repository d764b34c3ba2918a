// Comparisons: f32 for floats (f64 for f64 and integers, which it holds exactly), 9 bytes per f32
// element.
#include "cpp/ops/dense/compare.h"

#include <algorithm>

#include "cpp/cpu/chunk.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

using ops::CompareKind;

template <class A, class F>
void each(const A* a, const A* b, uint8_t* y, int64_t n, F relation) {
  for (int64_t i = 0; i < n; ++i) y[i] = relation(a[i], b[i]);
}

template <class A>
void compareArrays(CompareKind kind, const A* a, const A* b, uint8_t* y, int64_t n) {
  switch (kind) {
    case CompareKind::equal:
      return each(a, b, y, n, [](A s, A t) { return s == t; });
    case CompareKind::notEqual:
      return each(a, b, y, n, [](A s, A t) { return s != t; });
    case CompareKind::less:
      return each(a, b, y, n, [](A s, A t) { return s < t; });
    case CompareKind::lessEqual:
      return each(a, b, y, n, [](A s, A t) { return s <= t; });
    case CompareKind::greater:
      return each(a, b, y, n, [](A s, A t) { return s > t; });
    case CompareKind::greaterEqual:
      return each(a, b, y, n, [](A s, A t) { return s >= t; });
    case CompareKind::logicalAnd:
      return each(a, b, y, n, [](A s, A t) { return (s != 0) & (t != 0); });
    case CompareKind::logicalOr:
      return each(a, b, y, n, [](A s, A t) { return (s != 0) | (t != 0); });
  }
}

}  // namespace

Status compare(const ops::Compare& p, Context& context) {
  TensorView number = p.y;
  number.stride.fill(0);
  const StridedLoop<3> loop({p.a.defined() ? &p.a : &number, p.b.defined() ? &p.b : &number, &p.y});
  const int64_t as = loop.stride[0][loop.rank - 1], bs = loop.stride[1][loop.rank - 1];
  withArithmetic(p.a.defined() ? p.a.dtype : p.b.dtype, [&](auto zero) {
    using A = decltype(zero);
    loop.forEach(context.pool, 1 << 15, [&](std::array<int64_t, 3> at, int64_t begin, int64_t end) {
      Chunk<A> left, right;
      const int64_t most = std::min(kChunk, end - begin);
      if (!p.a.defined()) std::fill_n(left.data, most, static_cast<A>(p.value));
      if (!p.b.defined()) std::fill_n(right.data, most, static_cast<A>(p.value));
      for (int64_t i = begin; i < end; i += kChunk) {
        const int64_t n = std::min(kChunk, end - i);
        const A* a = p.a.defined() ? loadChunk(p.a, at[0] + i * as, as, n, left.data) : left.data;
        const A* b = p.b.defined() ? loadChunk(p.b, at[1] + i * bs, bs, n, right.data) : right.data;
        compareArrays(p.kind, a, b, p.y.data<uint8_t>() + at[2] + i, n);
      }
    });
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
