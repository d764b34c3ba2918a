// Exact attention, backward, for 16-bit floats on sm_90a: maps of the operands and launches.
// Algorithm, cost and predictions: backward90.cuh.
#include <array>

#include "cuda/attention/backward90.cuh"
#include "cuda/attention/readable.cuh"

namespace longspan::cuda {
namespace {

struct OperandAxes {
  int heads, tokens, width;
};

// What bulk copies read, as [B, H, tokens, dim].
std::array<TensorView, 4> gradientOperandsOf(const ops::AttentionGradientProblem& p) {
  const TensorView& gradO = p.gradO.defined() ? p.gradO : p.o;
  return {p.headMajor(p.q), p.headMajor(gradO), p.headMajor(p.k), p.headMajor(p.v)};
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
  const dim3 block(Tile::kThreads);
  constexpr size_t kBytes = Tile::kSharedBytes;
  if constexpr (Tile::kSharesTypes) {
    using Shared = typename Tile::template With<f16>;
    return launched(launch(attentionBackward90OfEither<Shared, Band>, grid, block, kBytes, stream,
                           w, type == DType::bf16));
  } else {
    return launched(launch(attentionBackward90<Tile, Band>, grid, block, kBytes, stream, w));
  }
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
  size_t bytes = 0;
  for (const TensorView& t : gradientOperandsOf(p)) bytes += copiedBytes(t);
  return bytes;
}

Status attentionBackward90(BackwardArguments a, const ops::AttentionGradientProblem& p,
                           std::byte* copies, Context& context) {
  Operand* const to[] = {&a.problem.q, &a.gradO, &a.problem.k, &a.problem.v};
  int i = 0;
  for (const TensorView& t : gradientOperandsOf(p)) {
    LONGSPAN_RETURN_IF_ERROR(makeReadable(t, *to[i++], copies, context));
  }
  return p.q.dtype == DType::bf16 ? runBackward90<bf16>(a, context.stream)
                                  : runBackward90<f16>(a, context.stream);
}

}  // namespace longspan::cuda
