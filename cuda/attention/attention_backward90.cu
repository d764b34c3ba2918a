// Exact attention, backward, for 16-bit floats on sm_90a: maps of the operands and launches.
// Algorithm, cost and predictions: backward90.cuh.
#include "cuda/attention/backward90.cuh"

namespace longspan::cuda {
namespace {

struct Axes {
  int heads, tokens, width;
};

Status map(TensorMap* to, const Problem& p, const Operand& t, const Axes& x, DType type, int rows) {
  return launched(mapTokens(to, t, type, p.batch, x.heads, x.tokens, x.width, rows));
}

template <class Tile>
Status runSide(Backward90& w, cudaStream_t stream) {
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
  const Axes queries{p.queryHeads, p.queries, p.dim}, keys{p.keyHeads, p.keys, p.dim};
  Axes gradients = queries, values = keys;
  gradients.width = values.width = p.valueDim;
  LONGSPAN_RETURN_IF_ERROR(map(&q, p, p.q, queries, type, kQueries));
  LONGSPAN_RETURN_IF_ERROR(map(&gradO, p, a.gradO, gradients, type, kQueries));
  LONGSPAN_RETURN_IF_ERROR(map(&k, p, p.k, keys, type, kKeys));
  LONGSPAN_RETURN_IF_ERROR(map(&v, p, p.v, values, type, kKeys));
  w.stayingX = kKeySide ? k : q, w.stayingY = kKeySide ? v : gradO;
  w.streamingX = kKeySide ? q : k, w.streamingY = kKeySide ? gradO : v;
  return launched(launch(attentionBackward90<Tile, Band>, grid, dim3(Tile::kThreads),
                         size_t{Tile::kSharedBytes}, stream, w));
}

template <class T>
Status run(const BackwardArguments& a, cudaStream_t stream) {
  LONGSPAN_RETURN_IF_ERROR(backwardStatistics(a, dtypeOf<T>(), stream));
  Backward90 w;
  w.arguments = a;
  return dispatchDim(a.problem, [&](auto dim) -> Status {
    constexpr int kDim = decltype(dim)::value;
    if constexpr (kDim <= 128) {
      LONGSPAN_RETURN_IF_ERROR((runSide<BackwardTile90<T, kDim, true, true, true>>(w, stream)));
    } else {
      LONGSPAN_RETURN_IF_ERROR((runSide<BackwardTile90<T, kDim, true, true, false>>(w, stream)));
      LONGSPAN_RETURN_IF_ERROR((runSide<BackwardTile90<T, kDim, true, false, true>>(w, stream)));
    }
    return runSide<BackwardTile90<T, kDim, false, true, false>>(w, stream);
  });
}

}  // namespace

bool bulkReadable(const BackwardArguments& a) {
  const Problem& p = a.problem;
  return mapped(p.q, p.batch, p.queryHeads, p.queries) &&
         mapped(a.gradO, p.batch, p.queryHeads, p.queries) &&
         mapped(p.k, p.batch, p.keyHeads, p.keys) && mapped(p.v, p.batch, p.keyHeads, p.keys);
}

Status attentionBackward90(const BackwardArguments& a, DType dtype, cudaStream_t stream) {
  return dtype == DType::bf16 ? run<bf16>(a, stream) : run<f16>(a, stream);
}

}  // namespace longspan::cuda
