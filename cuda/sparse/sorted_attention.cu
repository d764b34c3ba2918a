// Attention over sorted orders, forward: hash buckets of Kitaev et al. 2020, clusters of Roy et al.
// 2021. The tiles and the online softmax of exact attention (forward16.cuh, forward32.cuh), whose
// rows are fetched through the order and whose results go back through it.
//
// A launch per round; a block takes 64 neighbouring slots and walks over the slots of keys that any
// of them meets. Outputs of rounds are merged as they come, by their log-sum-exps, in f32 rows of
// the workspace, so that one copy is kept whatever the number of rounds. A single round of 16 bits
// writes its results at once.
//
// Cost per visible pair: 2 (D + Dv) FLOPs, one exponential, and with duplicates corrected three
// instructions per round. Per round and query: its row, those of the keys of its tile (chunks of c
// with one back: some (2 c + 64) / 64 rows of K and V per query, mostly from L2), and 8 Dv bytes of
// merging. Gathered rows are of 16-byte pieces, 128 bytes and more of a row together. From 129 to
// 256 dimensions there are kernels for f32 alone, which calls in 16 bits take with f32 copies of
// their operands (cuda/attention/widened.cuh): 6 bytes more per element of q, k, v and o.
//
// Predicted for an H200, 65536 tokens, 8 heads, D 64, bf16, chunk 64 with one back, 4 rounds: 330
// GFLOP of tiles (half of them beyond chunks) at 100 TFLOP/s (exposed gathers), 3.3 ms; f32 15
// TFLOP/s, 22 ms. Right on an H200; times: bench/results/nvidia-h200.json. The same at D 256 and in
// f32 or 16 bits: 1.3 TFLOP at 12 TFLOP/s (tiles of 16 keys), 110 ms; not yet run on hardware.
#include "cuda/attention/forward16.cuh"
#include "cuda/attention/forward32.cuh"
#include "cuda/dense/move.cuh"
#include "cuda/sparse/sorted_forward.cuh"
#include "cuda/sparse/sorted_plan.cuh"

namespace longspan::cuda {
namespace {

template <class Tile>
using ForwardOf = SortedForward<Tile::kRows, Tile::kKeys>;

template <int kDim>
__global__ void __launch_bounds__(ForwardTile<f16, kDim, true>::kThreads, 2)
    sortedAttention16(const __grid_constant__ SortedForwardArguments a, bool isBf16) {
  LONGSPAN_SHARED(shared);
  if (isBf16) {
    using Tile = ForwardTile<bf16, kDim, true>;
    forward16<Tile, ForwardOf<Tile>>(a, shared);
  } else {
    using Tile = ForwardTile<f16, kDim, true>;
    forward16<Tile, ForwardOf<Tile>>(a, shared);
  }
}

template <int kDim>
using SortedForwardTile32 = ForwardTile32<kDim, true>;

template <int kDim>
__global__ void __launch_bounds__(SortedForwardTile32<kDim>::kThreads, 1)
    sortedAttention32(const __grid_constant__ SortedForwardArguments a) {
  using Tile = SortedForwardTile32<kDim>;
  LONGSPAN_SHARED(shared);
  forward32<Tile, ForwardOf<Tile>>(a, shared);
}

// The tiles of every round, one launch after another.
template <class Tile, class... Extra>
Status runSortedRounds(SortedForwardArguments a, void (*kernel)(SortedForwardArguments, Extra...),
                       cudaStream_t stream, Extra... extra) {
  static_assert(Tile::kSharedBytes + ForwardOf<Tile>::tableBytes(kMostCorrectedRounds) <=
                kBlockBytes);
  const Sorted& s = a.sorted;
  const int64_t tiles = (s.queries.slots + Tile::kRows - 1) / Tile::kRows;
  dim3 grid;
  LONGSPAN_RETURN_IF_ERROR(gridOf(tiles * a.problem.queryHeads * int64_t{a.problem.batch}, &grid));
  const int bytes = Tile::kSharedBytes + ForwardOf<Tile>::tableBytes(s.countedRounds());
  for (int r = 0; r < s.rounds; ++r) {
    a.sorted.round = r;
    LONGSPAN_RETURN_IF_ERROR(launched(launch(kernel, grid, dim3(Tile::kThreads),
                                             static_cast<size_t>(bytes), stream, a, extra...)));
  }
  return {};
}

struct SortedMemory {
  Pieces pieces;
  SortedPlan plan;
  TensorView sum;          // of several rounds in 16 bits, or of kernels for f32
  QueryKeyValue operands;  // in f32, for those

  SortedMemory(const ops::SortedAttention& p, std::byte* memory)
      : pieces(memory), plan(p, false, pieces) {
    if (p.q.dtype == DType::f32 || (p.rounds() == 1 && !widens(p))) return;
    sum = pieces.rows(p.batch(), p.queryHeads(), p.queries(), p.valueDim());
    if (widens(p)) operands = widenedRows(operandsOf(p), pieces);
  }
};

Status sortedAttention(const ops::SortedAttention& p, Context& context) {
  LONGSPAN_RETURN_IF_ERROR(checkSorted(p));
  if (p.o.numel() == 0) return {};
  const SortedMemory memory(p, context.workspace.data);
  const bool isBf16 = p.q.dtype == DType::bf16, is32 = p.q.dtype == DType::f32 || widens(p);
  // Rows that no order lists are 0.
  const bool merges = memory.sum.base != nullptr;
  LONGSPAN_RETURN_IF_ERROR(clearSorted(merges ? memory.sum : p.o, context.stream));
  float* const roundLse = p.withRoundLse ? p.roundLse.data<float>() : nullptr;
  LONGSPAN_RETURN_IF_ERROR(makePlan(p, memory.plan, p.lse.data<float>(), roundLse, context.stream));
  SortedForwardArguments a{problemOf(p),        sortedOf(p, memory.plan, false),
                           operandOf(p.o),      {},
                           p.lse.data<float>(), roundLse};
  if (is32) a.sum = a.o;
  if (merges) a.sum = operandOf(memory.sum);
  if (widens(p)) {
    LONGSPAN_RETURN_IF_ERROR(widen(operandsOf(p), memory.operands, a.problem, context));
  }
  LONGSPAN_RETURN_IF_ERROR(dispatchDim(a.problem, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    if constexpr (kDim <= 128) {
      if (!is32) {
        return runSortedRounds<ForwardTile<f16, kDim, true>>(a, sortedAttention16<kDim>,
                                                             context.stream, isBf16);
      }
    }
    return runSortedRounds<SortedForwardTile32<kDim>>(a, sortedAttention32<kDim>, context.stream);
  }));
  return merges ? convertElements(memory.sum, p.o, context) : Status();
}

size_t sortedAttentionWorkspace(const ops::SortedAttention& p, const Gpu&) {
  return SortedMemory(p, nullptr).pieces.bytes();
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(SortedAttention, sortedAttention, sortedAttentionWorkspace);

}  // namespace
}  // namespace longspan::cuda
