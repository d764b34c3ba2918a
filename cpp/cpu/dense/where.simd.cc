// Selection by a mask; moves bits, so every dtype of one size shares a loop. 13 bytes per f32
// element.
#include "cpp/ops/dense/where.h"

#include "cpp/cpu/element.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

// Both are read whatever the condition: a load under a mask costs more than it saves.
template <class T>
inline T select(uint8_t condition, T a, T b) {
  const T taken = static_cast<T>(T{0} - static_cast<T>(condition != 0));
  return static_cast<T>((a & taken) | (b & static_cast<T>(~taken)));
}

}  // namespace

Status where(const ops::Where& p, Context& context) {
  TensorView number = p.y;
  number.stride.fill(0);
  const StridedLoop<4> loop(
      {&p.condition, p.a.defined() ? &p.a : &number, p.b.defined() ? &p.b : &number, &p.y});
  const int inner = loop.rank - 1;
  const int64_t cs = loop.stride[0][inner], as = loop.stride[1][inner], bs = loop.stride[2][inner];
  withElement(p.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T valueA = elementBits<T>(p.y.dtype, p.valueA),
            valueB = elementBits<T>(p.y.dtype, p.valueB);
    loop.forEach(context.pool, 1 << 15, [&](std::array<int64_t, 4> at, int64_t begin, int64_t end) {
      const uint8_t* c = p.condition.data<uint8_t>() + at[0];
      const T* a = p.a.defined() ? p.a.data<T>() + at[1] : &valueA;
      const T* b = p.b.defined() ? p.b.data<T>() + at[2] : &valueB;
      T* y = p.y.data<T>() + at[3];
      if (cs == 1 && as == 1 && bs == 1) {
        for (int64_t i = begin; i < end; ++i) y[i] = select(c[i], a[i], b[i]);
      } else if (cs == 1 && as == 1 && bs == 0) {
        const T other = *b;
        for (int64_t i = begin; i < end; ++i) y[i] = select(c[i], a[i], other);
      } else if (cs == 1 && as == 0 && bs == 1) {
        const T other = *a;
        for (int64_t i = begin; i < end; ++i) y[i] = select(c[i], other, b[i]);
      } else {
        for (int64_t i = begin; i < end; ++i) y[i] = select(c[i * cs], a[i * as], b[i * bs]);
      }
    });
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
