// Copies between any strides and dtypes. Elements of one dtype move as bits, so that four loops
// serve all; a conversion goes by chunks through the type that arithmetic on the source is done in,
// which holds it exactly. Reads and writes each element once.
#include "cpp/ops/dense/copy.h"

#include <limits>

#include "cpp/cpu/chunk.h"
#include "cpp/cpu/element.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

template <class T, class U>
void moveRun(const T* x, int64_t xs, U* y, int64_t ys, int64_t n) {
  if (xs == 1 && ys == 1) {
    for (int64_t i = 0; i < n; ++i) y[i] = static_cast<U>(x[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * ys] = static_cast<U>(x[i * xs]);
  }
}

// What lies beyond the integers becomes the nearest of them, NaN 0.
template <class A>
int32_t truncated(A x) {
  constexpr A kLimit = 2147483648.0;
  if (x >= kLimit) return std::numeric_limits<int32_t>::max();
  if (x < -kLimit) return std::numeric_limits<int32_t>::min();
  return x == x ? static_cast<int32_t>(x) : 0;
}

template <class A>
void truncateRun(const A* x, const TensorView& y, int64_t at, int64_t ys, int64_t n) {
  if (y.dtype == DType::i32) {
    int32_t* out = y.data<int32_t>() + at;
    for (int64_t i = 0; i < n; ++i) out[i * ys] = truncated(x[i]);
  } else {
    uint8_t* out = y.data<uint8_t>() + at;  // the low bits, as from i32
    for (int64_t i = 0; i < n; ++i) out[i * ys] = static_cast<uint8_t>(truncated(x[i]));
  }
}

void copyViews(const TensorView& x, const TensorView& y, ThreadPool& pool) {
  const StridedLoop<2> loop({&x, &y});
  const int64_t xs = loop.stride[0][loop.rank - 1], ys = loop.stride[1][loop.rank - 1];
  const auto move = [&](auto from, auto to) {
    const auto* source = x.data<typename decltype(from)::type>();
    auto* target = y.data<typename decltype(to)::type>();
    loop.forEach(pool, 1 << 16, [&](std::array<int64_t, 2> at, int64_t begin, int64_t end) {
      moveRun(source + at[0] + begin * xs, xs, target + at[1] + begin * ys, ys, end - begin);
    });
  };
  if (x.dtype == y.dtype) {
    withElement(x.dtype, [&](auto element) { move(element, element); });
  } else if (x.dtype == DType::i32 && y.dtype == DType::u8) {
    move(Tag<int32_t>{}, Tag<uint8_t>{});  // the low bits, as integers have it
  } else {
    withArithmetic(x.dtype, [&](auto zero) {
      using A = decltype(zero);
      loop.forEach(pool, 1 << 16, [&](std::array<int64_t, 2> at, int64_t begin, int64_t end) {
        Chunk<A> scratch;
        for (int64_t i = begin; i < end; i += kChunk) {
          const int64_t n = std::min(kChunk, end - i), to = at[1] + i * ys;
          const int64_t first = at[0] + i * xs;
          if (isFloating(x.dtype) && !isFloating(y.dtype)) {
            truncateRun(loadChunk(x, first, xs, n, scratch.data), y, to, ys, n);
            continue;
          }
          A* const widened = chunkTarget(y, to, scratch.data, ys);
          storeChunk(y, to, n, loadChunk(x, first, xs, n, widened), ys);
        }
      });
    });
  }
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
