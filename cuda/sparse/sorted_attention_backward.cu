// Attention over sorted orders, backward: the two sides of exact attention's backward pass
// (backward16.cuh, backward32.cuh), whose rows are fetched through the order. A launch per round
// and side.
//
// Weights are recomputed from the log-sum-exp of all rounds together. Within a round a position
// stands once, so that no two blocks write to one row; rounds are added up in f32 rows, launch by
// launch: deterministic, without atomics. Heads that share keys have orders of their own and follow
// one after another in the same way. A single round of 16 bits writes its gradients at once.
//
// Cost per visible pair: 2 (5 D + 2 Dv) + 2 (D + Dv) FLOPs, two exponentials, and with duplicates
// corrected twice three instructions per round. Bytes per round: rows of four operands gathered
// once per tile that they stay in and once per tile that they meet, 8 (2 D + Dv) of adding up per
// token. From 129 to 256 dimensions calls in 16 bits take the kernels for f32, as forward: 6 bytes
// more per element of four operands and three gradients.
//
// Predicted for an H200, 65536 tokens, 8 heads, D 64, bf16, chunk 64 with one back, 4 rounds: 1.2
// TFLOP of tiles at 90 TFLOP/s, 13 ms. Right on an H200; times: bench/results/nvidia-h200.json. The
// same at D 256, f32 or 16 bits: 4.8 TFLOP at 10 TFLOP/s, 480 ms; not yet run on hardware.
#include "cuda/attention/backward16.cuh"
#include "cuda/attention/backward32.cuh"
#include "cuda/dense/move.cuh"
#include "cuda/sparse/sorted_backward.cuh"
#include "cuda/sparse/sorted_plan.cuh"

namespace longspan::cuda {
namespace {

template <class Tile>
using BackwardOf = SortedBackward<Tile::kKeySide, Tile::kRows, Tile::kColumns, Tile::kStages>;

template <class T, int kDim, bool kKeySide>
using SortedTile16 = BackwardTile<T, kDim, kKeySide, true, kKeySide, true>;

template <int kDim, bool kKeySide>
__global__ void __launch_bounds__(SortedTile16<f16, kDim, kKeySide>::kThreads, 2)
    sortedAttentionBackward16(const __grid_constant__ SortedBackwardArguments a, bool isBf16) {
  LONGSPAN_SHARED(shared);
  if (isBf16) {
    using Tile = SortedTile16<bf16, kDim, kKeySide>;
    backward16<Tile, BackwardOf<Tile>>(a, shared);
  } else {
    using Tile = SortedTile16<f16, kDim, kKeySide>;
    backward16<Tile, BackwardOf<Tile>>(a, shared);
  }
}

template <int kDim, bool kKeySide>
using SortedTile32 = BackwardTile32<kDim, kKeySide, true>;

template <int kDim, bool kKeySide>
__global__ void __launch_bounds__(SortedTile32<kDim, kKeySide>::kThreads,
                                  SortedTile32<kDim, kKeySide>::kBlocks)
    sortedAttentionBackward32(const __grid_constant__ SortedBackwardArguments a) {
  using Tile = SortedTile32<kDim, kKeySide>;
  LONGSPAN_SHARED(shared);
  backward32<Tile, BackwardOf<Tile>>(a, shared);
}

template <class Tile, class... Extra>
Status runSortedSide(const SortedBackwardArguments& a,
                     void (*kernel)(SortedBackwardArguments, Extra...), cudaStream_t stream,
                     Extra... extra) {
  static_assert(Tile::kSharedBytes + BackwardOf<Tile>::tableBytes(kMostCorrectedRounds) <=
                kBlockBytes);
  const Problem& p = a.problem;
  const Sorted& s = a.sorted;
  const int64_t slots = (Tile::kKeySide ? s.keys : s.queries).slots;
  const int64_t heads = Tile::kKeySide ? p.keyHeads : p.queryHeads;
  dim3 grid;
  LONGSPAN_RETURN_IF_ERROR(
      gridOf((slots + Tile::kRows - 1) / Tile::kRows * heads * p.batch, &grid));
  const auto bytes =
      static_cast<size_t>(Tile::kSharedBytes + BackwardOf<Tile>::tableBytes(s.countedRounds()));
  return launched(launch(kernel, grid, dim3(Tile::kThreads), bytes, stream, a, extra...));
}

// Of every round the queries, and the keys for each query head of a group.
template <int kDim, bool kKeySide>
Status runSortedSide(const SortedBackwardArguments& a, DType type, cudaStream_t stream) {
  if constexpr (kDim <= 128) {
    if (type != DType::f32) {
      return runSortedSide<SortedTile16<f16, kDim, kKeySide>>(
          a, sortedAttentionBackward16<kDim, kKeySide>, stream, type == DType::bf16);
    }
  }
  return runSortedSide<SortedTile32<kDim, kKeySide>>(a, sortedAttentionBackward32<kDim, kKeySide>,
                                                     stream);
}

template <int kDim>
Status runSortedGradients(SortedBackwardArguments a, DType type, cudaStream_t stream) {
  const Problem& p = a.problem;
  for (int r = 0; r < a.sorted.rounds; ++r) {
    a.sorted.round = r;
    LONGSPAN_RETURN_IF_ERROR((runSortedSide<kDim, false>(a, type, stream)));
    for (a.member = 0; a.member < p.queryHeads / p.keyHeads; ++a.member) {
      LONGSPAN_RETURN_IF_ERROR((runSortedSide<kDim, true>(a, type, stream)));
    }
  }
  return {};
}

struct SortedGradientMemory {
  Pieces pieces;
  SortedPlan plan;
  float *delta, *base;
  TensorView sumQ, sumK, sumV;  // where several launches add up 16 bits, or kernels for f32 do
  QueryKeyValue operands;       // in f32, for those
  TensorView gradO;             // the same

  SortedGradientMemory(const ops::SortedAttentionBackward& p, std::byte* memory)
      : pieces(memory), plan(p, true, pieces) {
    const int64_t rows = p.batch() * p.queryHeads() * p.queries();
    delta = pieces.take<float>(rows);
    base = pieces.take<float>(rows);
    if (p.q.dtype == DType::f32) return;
    const bool wide = widens(p);
    if (wide || p.rounds() > 1) sumQ = widenedRows(p.q, pieces);
    if (!wide && p.rounds() == 1 && p.queryHeads() == p.keyHeads()) return;
    sumK = widenedRows(p.k, pieces), sumV = widenedRows(p.v, pieces);
    if (!wide) return;
    operands = widenedRows(operandsOf(p), pieces);
    if (p.gradO.defined()) gradO = widenedRows(p.gradO, pieces);
  }
};

// A gradient and the f32 rows that it is summed in, which may be its own.
struct SortedSum {
  const TensorView& gradient;
  const TensorView& rows;
  bool separate() const { return rows.base != nullptr; }
  Status clear(cudaStream_t stream) const {
    return clearSorted(separate() ? rows : gradient, stream);
  }
  Operand operand() const {
    if (separate()) return operandOf(rows);
    return gradient.dtype == DType::f32 ? operandOf(gradient) : Operand();
  }
};

Status sortedAttentionBackward(const ops::SortedAttentionBackward& p, Context& context) {
  LONGSPAN_RETURN_IF_ERROR(checkSorted(p));
  if (p.gradQ.numel() == 0 && p.gradK.numel() == 0) return {};
  const SortedGradientMemory memory(p, context.workspace.data);
  const SortedSum sums[] = {{p.gradQ, memory.sumQ}, {p.gradK, memory.sumK}, {p.gradV, memory.sumV}};
  for (const SortedSum& sum : sums) LONGSPAN_RETURN_IF_ERROR(sum.clear(context.stream));
  if (p.gradQ.numel() == 0 || p.gradK.numel() == 0) return {};
  LONGSPAN_RETURN_IF_ERROR(makePlan(p, memory.plan, nullptr, nullptr, context.stream));
  SortedBackwardArguments a{};
  a.problem = problemOf(p);
  a.sorted = sortedOf(p, memory.plan, true);
  a.o = operandOf(p.o);
  a.hasGradO = p.gradO.defined();
  a.gradO = a.hasGradO ? operandOf(p.gradO) : a.o;
  a.lse = statisticOf(p.lse);
  if (p.gradLse.defined()) a.gradLse = statisticOf(p.gradLse);
  a.delta = memory.delta;
  a.base = memory.base;
  a.gradQ = operandOf(p.gradQ);
  a.gradK = operandOf(p.gradK);
  a.gradV = operandOf(p.gradV);
  a.sumQ = sums[0].operand();
  a.sumK = sums[1].operand();
  a.sumV = sums[2].operand();
  LONGSPAN_RETURN_IF_ERROR(backwardStatistics(a, p.q.dtype, context.stream));
  if (widens(p)) {
    LONGSPAN_RETURN_IF_ERROR(widen(operandsOf(p), memory.operands, a.problem, context));
    a.gradO = a.problem.q;
    if (a.hasGradO) LONGSPAN_RETURN_IF_ERROR(widen(p.gradO, memory.gradO, a.gradO, context));
  }
  LONGSPAN_RETURN_IF_ERROR(dispatchDim(a.problem, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    return runSortedGradients<kDim>(a, p.q.dtype, context.stream);
  }));
  for (const SortedSum& sum : sums) {
    if (sum.separate()) {
      LONGSPAN_RETURN_IF_ERROR(convertElements(sum.rows, sum.gradient, context));
    }
  }
  return {};
}

size_t sortedAttentionBackwardWorkspace(const ops::SortedAttentionBackward& p, const Gpu&) {
  return SortedGradientMemory(p, nullptr).pieces.bytes();
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(SortedAttentionBackward, sortedAttentionBackward,
                                      sortedAttentionBackwardWorkspace);

}  // namespace
}  // namespace longspan::cuda
