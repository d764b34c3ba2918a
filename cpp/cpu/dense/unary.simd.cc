// Elementwise functions: chunks of at most 1024 elements are widened to f32 (f64 stays f64), mapped
// and rounded back. 16-bit data moves 4 bytes per element, f32 8; backward 6 and 12. The
// polynomials cost 10 to 40 FLOPs per element, so that f32 exp runs at the speed of memory and erf
// close to it.
#include "cpp/ops/dense/unary.h"

#include "cpp/cpu/chunk.h"
#include "cpp/cpu/pointwise.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

using ops::UnaryKind;

// Calls f(Op{}) with the function that `kind` names.
template <class F>
void withFunction(UnaryKind kind, F&& f) {
  using namespace pointwise;
  switch (kind) {
    case UnaryKind::exp:
      return f(Exp{});
    case UnaryKind::log:
      return f(Log{});
    case UnaryKind::sqrt:
      return f(Sqrt{});
    case UnaryKind::rsqrt:
      return f(Rsqrt{});
    case UnaryKind::abs:
      return f(Abs{});
    case UnaryKind::neg:
      return f(Neg{});
    case UnaryKind::sin:
      return f(Sin{});
    case UnaryKind::cos:
      return f(Cos{});
    case UnaryKind::tanh:
      return f(Tanh{});
    case UnaryKind::sigmoid:
      return f(Sigmoid{});
    case UnaryKind::erf:
      return f(Erf{});
    case UnaryKind::square:
      return f(Square{});
    case UnaryKind::reciprocal:
      return f(Reciprocal{});
    case UnaryKind::softplus:
      return f(Softplus{});
    case UnaryKind::relu:
      return f(Relu{});
    case UnaryKind::reluSquared:
      return f(ReluSquared{});
    case UnaryKind::gelu:
      return f(Gelu{});
    case UnaryKind::geluTanh:
      return f(GeluTanh{});
    case UnaryKind::silu:
      return f(Silu{});
    case UnaryKind::floor:
      return f(Floor{});
    case UnaryKind::round:
      return f(Round{});
    case UnaryKind::sign:
      return f(Sign{});
  }
}

template <class A>
using Map = void (*)(const A*, A*, int64_t);
template <class A>
using Map2 = void (*)(const A*, const A*, A*, int64_t);

template <class A>
Map<A> valueMap(UnaryKind kind) {
  Map<A> map = nullptr;
  withFunction(kind, [&](auto op) {
    using Op = decltype(op);
    map = [](const A* x, A* y, int64_t n) {
      mapArray(x, y, n, [](auto v) { return Op::value(v); });
    };
  });
  return map;
}

template <class A>
Map2<A> slopeMap(UnaryKind kind) {
  Map2<A> map = nullptr;
  withFunction(kind, [&](auto op) {
    using Op = decltype(op);
    map = [](const A* grad, const A* saved, A* out, int64_t n) {
      mapArrays(grad, saved, out, n, [](auto g, auto s) { return g * Op::slope(s); });
    };
  });
  return map;
}

}  // namespace

Status unary(const ops::Unary& p, Context& context) {
  const StridedLoop<2> loop({&p.x, &p.y});
  const int64_t step = loop.stride[0][loop.rank - 1];
  withArithmetic(p.x.dtype, [&](auto zero) {
    using A = decltype(zero);
    const Map<A> map = valueMap<A>(p.kind);
    loop.forEach(context.pool, 1 << 14, [&](std::array<int64_t, 2> at, int64_t begin, int64_t end) {
      Chunk<A> in, out;
      for (int64_t i = begin; i < end; i += kChunk) {
        const int64_t n = std::min(kChunk, end - i);
        const A* x = loadChunk(p.x, at[0] + i * step, step, n, in.data);
        A* y = chunkTarget(p.y, at[1] + i, out.data);
        map(x, y, n);
        storeChunk(p.y, at[1] + i, n, y);
      }
    });
  });
  return {};
}

Status unaryBackward(const ops::UnaryBackward& p, Context& context) {
  const StridedLoop<3> loop({&p.gradY, &p.saved, &p.gradX});
  const int64_t gs = loop.stride[0][loop.rank - 1], ss = loop.stride[1][loop.rank - 1];
  withArithmetic(p.saved.dtype, [&](auto zero) {
    using A = decltype(zero);
    const Map2<A> map = slopeMap<A>(p.kind);
    loop.forEach(context.pool, 1 << 14, [&](std::array<int64_t, 3> at, int64_t begin, int64_t end) {
      Chunk<A> grads, saved, out;
      for (int64_t i = begin; i < end; i += kChunk) {
        const int64_t n = std::min(kChunk, end - i);
        const A* g = loadChunk(p.gradY, at[0] + i * gs, gs, n, grads.data);
        const A* s = loadChunk(p.saved, at[1] + i * ss, ss, n, saved.data);
        A* y = chunkTarget(p.gradX, at[2] + i, out.data);
        map(g, s, y, n);
        storeChunk(p.gradX, at[2] + i, n, y);
      }
    });
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
