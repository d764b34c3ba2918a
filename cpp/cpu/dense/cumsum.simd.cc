// Running sums, in f64 for every dtype, so that each result is rounded once. Lines along the last
// axis run one after another; along other axes up to 1024 neighbouring lines advance together. 8
// bytes per f32 element.
#include "cpp/ops/dense/cumsum.h"

#include "cpp/cpu/axis_blocks.h"
#include "cpp/cpu/chunk.h"
#include "cpp/cpu/strided.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

void sumLine(const ops::Cumsum& p, int64_t from, int64_t to, int64_t length, int64_t step) {
  Chunk<double> chunk;
  double sum = 0;
  for (int64_t done = 0; done < length; done += kChunk) {
    const int64_t n = std::min(kChunk, length - done);
    const int64_t first = p.reverse ? length - done - n : done;
    const double* x = loadChunk(p.x, from + first * step, step, n, chunk.data);
    Chunk<double> out;
    if (p.reverse) {
      for (int64_t i = n - 1; i >= 0; --i) out.data[i] = sum += x[i];
    } else {
      for (int64_t i = 0; i < n; ++i) out.data[i] = sum += x[i];
    }
    roundChunk(p.y, to + first, n, out.data, 1);
  }
}

void sumLines(const ops::Cumsum& p, int64_t from, int64_t to, int64_t step, int64_t n) {
  const int64_t length = p.x.shape[p.axis], xs = p.x.stride[p.axis], ys = p.y.stride[p.axis];
  Chunk<double> row, sum;
  std::fill_n(sum.data, n, 0.0);
  for (int64_t i = 0; i < length; ++i) {
    const int64_t t = p.reverse ? length - 1 - i : i;
    const double* x = loadChunk(p.x, from + t * xs, step, n, row.data);
    for (int64_t c = 0; c < n; ++c) sum.data[c] += x[c];
    roundChunk(p.y, to + t * ys, n, sum.data, 1);
  }
}

}  // namespace

Status cumsum(const ops::Cumsum& p, Context& context) {
  const int64_t length = p.x.shape[p.axis];
  if (length == 0) return {};
  const TensorView x = sliceLayout(p.x, p.axis, 1), y = sliceLayout(p.y, p.axis, 1);
  if (p.y.stride[p.axis] == 1) {
    const int64_t grain = std::max<int64_t>(1, (1 << 15) / length);
    context.pool.forRange(x.numel(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t line = begin; line < end; ++line) {
        sumLine(p, offsetAlong(x, 0, x.rank, line), offsetAlong(y, 0, y.rank, line), length,
                p.x.stride[p.axis]);
      }
    });
    return {};
  }
  const StridedLoop<2> loop({&x, &y});
  const int64_t step = loop.stride[0][loop.rank - 1];
  const int64_t grain = std::clamp<int64_t>((1 << 17) / length, 64, kChunk);
  loop.forEach(context.pool, grain, [&](std::array<int64_t, 2> at, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kChunk) {
      sumLines(p, at[0] + i * step, at[1] + i, step, std::min(kChunk, end - i));
    }
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
