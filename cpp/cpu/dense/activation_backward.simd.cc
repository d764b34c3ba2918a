// activationBackward on the CPU: reads gradY and kept once, writes gradX once. Column sums are kept
// per chunk of rows, in f32, and added chunk by chunk, so that they do not depend on the number of
// threads.
#include "cpp/ops/dense/activation_backward.h"

#include <algorithm>

#include "cpp/core/half.h"
#include "cpp/cpu/activation.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int64_t kPiece = 256;  // columns worked on at a time, in registers and on the stack

int64_t rowOffset(const TensorView& t, int64_t row) {
  int64_t at = 0;
  for (int axis = t.rank - 2; axis >= 0; --axis) {
    at += row % t.shape[axis] * t.stride[axis];
    row /= t.shape[axis];
  }
  return at;
}

// The first n of `from` in the accumulator type; the rest of the last vector is 0.
template <class T, class A>
void loadPiece(const T* from, int64_t step, int64_t n, A* to) {
  constexpr int lanes = kLanesOf<A>;
  if (step == 1) {
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) vstore(to + i, vload(from + i));
    if (i < n) vstore(to + i, vloadPart(from + i, static_cast<int>(n - i)));
    return;
  }
  for (int64_t i = 0; i < (n + lanes - 1) / lanes * lanes; ++i)
    to[i] = i < n ? load(from[i * step]) : A{};
}

template <class T, class A>
void storePiece(T* to, const A* from, int64_t n) {
  constexpr int lanes = kLanesOf<A>;
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) vstore(to + i, vload(from + i));
  if (i < n) vstorePart(to + i, vload(from + i), static_cast<int>(n - i));
}

template <class T>
void run(const ops::ActivationBackward& p, Context& context) {
  using A = Accumulator<T>;
  const int64_t rows = p.rows(), columns = p.columns();
  const int64_t perChunk =
      std::max<int64_t>((rows + p.kChunks - 1) / p.kChunks,
                        std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, columns)));
  const int64_t chunks = (rows + perChunk - 1) / perChunk;
  const bool activated = p.gradX.defined();
  A* const sums = p.wantBias ? reinterpret_cast<A*>(context.workspace.data) : nullptr;

  if (activated || p.wantBias) {
    context.pool.forEach(chunks, [&](int64_t chunk, int) {
      A* const sum = sums + chunk * columns;
      if (sums != nullptr) std::fill(sum, sum + columns, A{});
      for (int64_t row = chunk * perChunk; row < std::min(rows, (chunk + 1) * perChunk); ++row) {
        const T* gradY = p.gradY.data<T>() + rowOffset(p.gradY, row);
        const T* kept = activated ? p.kept.data<T>() + rowOffset(p.kept, row) : nullptr;
        for (int64_t j = 0; j < columns; j += kPiece) {
          const int64_t n = std::min(kPiece, columns - j);
          alignas(64) A g[kPiece], x[kPiece];
          loadPiece(gradY + j * p.gradY.strideOf(-1), p.gradY.strideOf(-1), n, g);
          if (activated) {
            loadPiece(kept + j * p.kept.strideOf(-1), p.kept.strideOf(-1), n, x);
            timesSlope(p.activation, x, g, n);
            storePiece(p.gradX.data<T>() + row * columns + j, g, n);
          }
          if (sums != nullptr) {
            for (int64_t i = 0; i < n; ++i) sum[j + i] += g[i];
          }
        }
      }
    });
  }
  if (!p.wantBias) return;
  context.pool.forRange(columns, 1 << 12, [&](int64_t begin, int64_t end) {
    T* gradBias = p.gradBias.data<T>();
    for (int64_t j = begin; j < end; ++j) {
      A total{};
      for (int64_t chunk = 0; chunk < chunks; ++chunk) total += sums[chunk * columns + j];
      gradBias[j] = store<T>(total);
    }
  });
}

}  // namespace

Status activationBackward(const ops::ActivationBackward& p, Context& context) {
  dispatchFloating(p.gradY.dtype, [&](auto tag) { run<typename decltype(tag)::type>(p, context); });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
