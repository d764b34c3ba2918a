// Rotary position embedding (Su et al. 2021). First a table of cosines and sines, then the
// rotation.
//
// Cost: P positions of dim / 2 pairs make the table; x is read and written once, 6 FLOPs per pair.
#include "cpp/ops/dense/rotary.h"

#include <algorithm>

#include "cpp/cpu/dense/rotary_row.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

template <class A>
void run(const ops::Rotary& p, Context& context) {
  const int64_t half = p.dim / 2, n = p.x.shape[p.axis], channels = p.x.dim(-1);
  const bool perBatch = p.positions.defined() && p.positions.rank == 2;
  const int64_t places = perBatch ? p.positions.numel() : n;
  auto* turns = reinterpret_cast<double*>(context.workspace.data);
  A* table = reinterpret_cast<A*>(turns + half);  // (places, [cosine, sine], half)
  A* scratch = table + 2 * half * places;
  if (p.x.numel() == 0) return;

  frequencyTurns(p, turns);
  const int64_t offset = p.offset.defined() ? *p.offset.data<int32_t>() : 0;
  const A sign = p.inverse ? A(-1) : A(1);
  context.pool.forRange(places, std::max<int64_t>(1, 4096 / std::max<int64_t>(half, 1)),
                        [&](int64_t begin, int64_t end) {
                          for (int64_t i = begin; i < end; ++i) {
                            int64_t position = i;
                            if (p.positions.defined()) {
                              const auto& t = p.positions;
                              const int64_t row = perBatch ? i / n * t.stride[0] : 0;
                              position = t.data<int32_t>()[row + i % n * t.strideOf(-1)];
                            }
                            A* to = table + 2 * half * i;
                            angles(static_cast<double>(position + offset), turns, half, sign, to,
                                   to + half);
                          }
                        });

  const Rows x(p.x);
  int64_t inner = 1, batch = 1;  // rows per position, rows per entry of axis 0
  for (int i = static_cast<int>(p.axis) + 1; i < p.x.rank - 1; ++i) inner *= p.x.shape[i];
  for (int i = 1; i < p.x.rank - 1; ++i) batch *= p.x.shape[i];
  const int64_t group = std::max<int64_t>(1, 8192 / channels);
  context.pool.forEach((x.count + group - 1) / group, [&](int64_t item, int thread) {
    A* own = scratch + 2 * channels * thread;
    for (int64_t row = item * group; row < std::min(x.count, (item + 1) * group); ++row) {
      const A* from = rowOf(p.x, x.at(row), x.step, channels, own);
      const int64_t place = row / inner % n + (perBatch ? row / batch * n : 0);
      const A* angle = table + 2 * half * place;
      A* to = p.y.dtype == dtypeOf<A>() ? p.y.data<A>() + row * channels : own + channels;
      rotateRow(from, to, angle, angle + half, half, p.interleaved);
      std::copy(from + p.dim, from + channels, to + p.dim);
      if (to == own + channels) storeRow(p.y, row * channels, 1, channels, to);
    }
  });
}

}  // namespace

Status rotary(const ops::Rotary& p, Context& context) {
  withAccumulator(p.x.dtype, [&](auto zero) { run<decltype(zero)>(p, context); });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
