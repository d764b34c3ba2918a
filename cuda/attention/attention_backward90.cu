// Exact attention, backward, for 16-bit floats on sm_90a: maps of the operands and launches.
// Algorithm, cost and predictions: backward90.cuh.
#include <algorithm>
#include <array>

#include "cuda/attention/backward90.cuh"
#include "cuda/dense/move.cuh"

namespace longspan::cuda {
namespace {

struct OperandAxes {
  int heads, tokens, width;
};

// What bulk copies read, as [B, H, tokens, dim].
std::array<TensorView, 4> operandsOf(const ops::AttentionGradientProblem& p) {
  const TensorView& gradO = p.gradO.defined() ? p.gradO : p.o;
  return {p.headMajor(p.q), p.headMajor(gradO), p.headMajor(p.k), p.headMajor(p.v)};
}

// A contiguous copy with rows on 16 bytes.
TensorView copyAt(const TensorView& t, std::byte* memory) {
  const int64_t run = 16 / static_cast<int64_t>(sizeOf(t.dtype));
  TensorView copy = TensorView::ofShape(
      t.dtype, {t.shape[0], t.shape[1], t.shape[2], (t.shape[3] + run - 1) / run * run});
  copy.shape[3] = t.shape[3];
  copy.base = memory;
  return copy;
}

// Bytes of that copy, or 0 where the operand can be read as it lies. Memory of tensors begins on 16
// bytes, so that offsets and strides decide. An operand without tokens has memory that its map can
// name.
int64_t copiedBytes(TensorView t) {
  constexpr int64_t kStep = 256;
  t.base = nullptr;
  const auto axis = [&](int i) { return static_cast<int>(t.shape[i]); };
  if (mapped(operandOf(t), axis(0), axis(1), axis(2))) return 0;
  const int64_t elements = t.shape[0] * t.shape[1] * t.shape[2] * copyAt(t, nullptr).stride[2];
  const int64_t bytes = elements * static_cast<int64_t>(sizeOf(t.dtype));
  return std::max(kStep, (bytes + kStep - 1) / kStep * kStep);
}

Status mapOperand(TensorMap* to, const Problem& p, const Operand& t, const OperandAxes& x,
                  DType type, int rows) {
  return launched(mapTokens(to, t, type, p.batch, x.heads, x.tokens, x.width, rows));
}

template <class Tile>
Status runSide90(Backward90& w, cudaStream_t stream) {
  constexpr DType type = dtypeOf<typename Tile::T>();
  constexpr bool kKeySide = Tile::kKeySide;
  const BackwardArguments& a = w.arguments;
  const Problem& p = a.problem;
  dim3 grid;
  const int64_t tiles = p.tiles(kKeySide ? p.keys : p.queries, Tile::kRows);
  const int64_t heads = kKeySide ? p.keyHeads : p.queryHeads;
  LONGSPAN_RETURN_IF_ERROR(gridOf(tiles * heads * p.batch, &grid));
  if (grid.x == 0) return {};
  constexpr int kStaying = 64, kStreaming = Tile::kColumns;
  constexpr int kQueries = kKeySide ? kStreaming : kStaying;
  constexpr int kKeys = kKeySide ? kStaying : kStreaming;
  TensorMap q, gradO, k, v;
  const OperandAxes queries{p.queryHeads, p.queries, p.dim}, keys{p.keyHeads, p.keys, p.dim};
  OperandAxes gradients = queries, values = keys;
  gradients.width = values.width = p.valueDim;
  LONGSPAN_RETURN_IF_ERROR(mapOperand(&q, p, p.q, queries, type, kQueries));
  LONGSPAN_RETURN_IF_ERROR(mapOperand(&gradO, p, a.gradO, gradients, type, kQueries));
  LONGSPAN_RETURN_IF_ERROR(mapOperand(&k, p, p.k, keys, type, kKeys));
  LONGSPAN_RETURN_IF_ERROR(mapOperand(&v, p, p.v, values, type, kKeys));
  w.stayingX = kKeySide ? k : q, w.stayingY = kKeySide ? v : gradO;
  w.streamingX = kKeySide ? q : k, w.streamingY = kKeySide ? gradO : v;
  return launched(launch(attentionBackward90<Tile, Band>, grid, dim3(Tile::kThreads),
                         size_t{Tile::kSharedBytes}, stream, w));
}

template <class T>
Status runBackward90(const BackwardArguments& a, cudaStream_t stream) {
  LONGSPAN_RETURN_IF_ERROR(backwardStatistics(a, dtypeOf<T>(), stream));
  Backward90 w;
  w.arguments = a;
  return dispatchDim(a.problem, [&](auto dim) -> Status {
    constexpr int kDim = decltype(dim)::value;
    if constexpr (kDim <= 128) {
      LONGSPAN_RETURN_IF_ERROR((runSide90<BackwardTile90<T, kDim, true, true, true>>(w, stream)));
    } else {
      LONGSPAN_RETURN_IF_ERROR((runSide90<BackwardTile90<T, kDim, true, true, false>>(w, stream)));
      LONGSPAN_RETURN_IF_ERROR((runSide90<BackwardTile90<T, kDim, true, false, true>>(w, stream)));
    }
    return runSide90<BackwardTile90<T, kDim, false, true, false>>(w, stream);
  });
}

}  // namespace

size_t copiedBytes90(const ops::AttentionGradientProblem& p) {
  int64_t bytes = 0;
  for (const TensorView& t : operandsOf(p)) bytes += copiedBytes(t);
  return static_cast<size_t>(bytes);
}

Status attentionBackward90(BackwardArguments a, const ops::AttentionGradientProblem& p,
                           std::byte* copies, Context& context) {
  Operand* const to[] = {&a.problem.q, &a.gradO, &a.problem.k, &a.problem.v};
  int i = 0;
  for (const TensorView& t : operandsOf(p)) {
    const TensorView copy = copyAt(t, copies);
    if (copiedBytes(t) > 0) {
      if (t.numel() > 0) LONGSPAN_RETURN_IF_ERROR(moveElements(t, copy, context));
      *to[i] = operandOf(copy);
      copies += copiedBytes(t);
    }
    ++i;
  }
  return p.q.dtype == DType::bf16 ? runBackward90<bf16>(a, context.stream)
                                  : runBackward90<f16>(a, context.stream);
}

}  // namespace longspan::cuda
