// Exact attention, backward: weights are recomputed from the log-sum-exp, tile by tile (Dao et al.
// 2022), once for the gradients of keys and values and once for those of queries. Deterministic.
//
// Cost per visible pair: 2 (5 D + 2 Dv) + 2 (D + Dv) FLOPs in seven products (five would do with
// atomics) and two exponentials. Bytes: every operand once, and once more per tile of 64 rows that
// streams over it, mostly from L2. Workspace: 8 bytes per query, and 8 per packed sequence. The
// gradient of sinks needs no scores (attention_statistics.cu).
//
// 16-bit operands have wgmma on sm_90a (attention_backward90.cu), mma.sync elsewhere
// (backward16.cuh). Block masks at more than 128 dimensions in 16 bits are left to the kernels for
// f32 (widened.cuh), at whose rate they are predicted; that path has not yet run on hardware.
//
// Predicted for an H200, from mma.sync at about 60 % of the rate of wgmma: bf16, 8192 tokens, no
// mask: 200 TFLOP/s of 2.5 times the forward's FLOPs at D 64, 170 at D 128, 90 at D 256; f32 20 (D
// 64). Those for sm_80 have not yet run on hardware.
#include "cpp/ops/attention/attention_backward.h"
#include "cuda/attention/backward16.cuh"
#include "cuda/attention/backward32.cuh"
#include "cuda/attention/sequences.cuh"
#include "cuda/attention/widened.cuh"
#include "cuda/core/sm90a.h"

namespace longspan::cuda {
namespace {

template <class Tile>
Status runSide(const BackwardArguments& a, void (*kernel)(BackwardArguments), cudaStream_t stream) {
  const Problem& p = a.problem;
  const int64_t tiles = p.tiles(Tile::kKeySide ? p.keys : p.queries, Tile::kRows);
  const int64_t heads = Tile::kKeySide ? p.keyHeads : p.queryHeads;
  dim3 grid;
  LONGSPAN_RETURN_IF_ERROR(gridOf(tiles * heads * p.batch, &grid));
  if (grid.x == 0) return {};
  return launched(launch(kernel, grid, dim3(Tile::kThreads), Tile::kSharedBytes, stream, a));
}

template <class T, int kDim, bool kKeySide, bool kFirst, bool kSecond>
Status runSide16(const BackwardArguments& a, cudaStream_t stream) {
  using Tile = BackwardTile<T, kDim, kKeySide, kFirst, kSecond>;
  return runSide<Tile>(a, attentionBackward16<Tile, Band>, stream);
}

template <int kDim, bool kKeySide>
Status runSide32(const BackwardArguments& a, cudaStream_t stream) {
  using Tile = BackwardTile32<kDim, kKeySide>;
  return runSide<Tile>(a, attentionBackward32<Tile, Band>, stream);
}

template <class T>
Status run(const BackwardArguments& a, cudaStream_t stream) {
  return dispatchDim(a.problem, [&](auto dim) -> Status {
    constexpr int kDim = decltype(dim)::value;
    if constexpr (std::is_same_v<T, float>) {
      LONGSPAN_RETURN_IF_ERROR((runSide32<kDim, true>(a, stream)));
      return runSide32<kDim, false>(a, stream);
    } else if constexpr (kDim <= 128) {
      LONGSPAN_RETURN_IF_ERROR((runSide16<T, kDim, true, true, true>(a, stream)));
      return runSide16<T, kDim, false, true, false>(a, stream);
    } else {
      LONGSPAN_RETURN_IF_ERROR((runSide16<T, kDim, true, true, false>(a, stream)));
      LONGSPAN_RETURN_IF_ERROR((runSide16<T, kDim, true, false, true>(a, stream)));
      return runSide16<T, kDim, false, true, false>(a, stream);
    }
  });
}

bool usesWgmma(const ops::AttentionBackward& p, const Gpu& gpu) {
  return p.q.dtype != DType::f32 && runsSm90a(gpu);
}

// In the workspace, of a call that the kernels for f32 compute.
struct WidenedBackward {
  Pieces pieces;
  std::byte* statistics;
  WidenedInputs inputs;
  TensorView gradO, gradQ, gradK, gradV;

  WidenedBackward(const ops::AttentionBackward& p, std::byte* memory)
      : pieces(memory),
        statistics(reinterpret_cast<std::byte*>(pieces.take<float>(statisticsOf(p)))),
        inputs(p, pieces),
        gradQ(widenedRows(p.headMajor(p.q), pieces)),
        gradK(widenedRows(p.headMajor(p.k), pieces)),
        gradV(widenedRows(p.headMajor(p.v), pieces)) {
    if (p.gradO.defined()) gradO = widenedRows(p.headMajor(p.gradO), pieces);
  }
};

Status runWidened(const ops::AttentionBackward& p, Context& context) {
  const WidenedBackward memory(p, context.workspace.data);
  BackwardArguments a = backwardArguments(p, memory.statistics);
  if (p.withGradSinks) a.gradSinks = p.gradSinks.data<float>();
  LONGSPAN_RETURN_IF_ERROR(backwardStatistics(a, p.q.dtype, context.stream));
  LONGSPAN_RETURN_IF_ERROR(memory.inputs.fill(p, a.problem, context));
  a.gradO = a.problem.q;  // any, where it is absent
  if (a.hasGradO) {
    LONGSPAN_RETURN_IF_ERROR(widen(p.headMajor(p.gradO), memory.gradO, a.gradO, context));
  }
  a.gradQ = operandOf(memory.gradQ);
  a.gradK = operandOf(memory.gradK);
  a.gradV = operandOf(memory.gradV);
  LONGSPAN_RETURN_IF_ERROR(run<float>(a, context.stream));
  LONGSPAN_RETURN_IF_ERROR(convertElements(memory.gradQ, p.headMajor(p.gradQ), context));
  LONGSPAN_RETURN_IF_ERROR(convertElements(memory.gradK, p.headMajor(p.gradK), context));
  return convertElements(memory.gradV, p.headMajor(p.gradV), context);
}

size_t attentionBackwardWorkspace(const ops::AttentionBackward& p, const Gpu& gpu) {
  if (widens(p)) return WidenedBackward(p, nullptr).pieces.bytes();
  return (usesWgmma(p, gpu) ? copiedBytes90(p) : 0) +
         static_cast<size_t>(statisticsOf(p)) * sizeof(float) + sequenceStartsBytes(p);
}

Status attentionBackward(const ops::AttentionBackward& p, Context& context) {
  if (p.gradQ.numel() == 0 && p.gradK.numel() == 0 && p.gradV.numel() == 0 && !p.withGradSinks) {
    return {};
  }
  if (widens(p)) return runWidened(p, context);
  const bool wgmma = usesWgmma(p, context.gpu);
  std::byte* const copies = context.workspace.data;
  BackwardArguments a = backwardArguments(p, copies + (wgmma ? copiedBytes90(p) : 0));
  a.gradQ = operandOf(p.headMajor(p.gradQ));
  a.gradK = operandOf(p.headMajor(p.gradK));
  a.gradV = operandOf(p.headMajor(p.gradV));
  if (p.withGradSinks) a.gradSinks = p.gradSinks.data<float>();
  LONGSPAN_RETURN_IF_ERROR(findSequences(p, a.problem, a.delta + statisticsOf(p), context.stream));
  if (wgmma) return attentionBackward90(a, p, copies, context);
  LONGSPAN_RETURN_IF_ERROR(backwardStatistics(a, p.q.dtype, context.stream));
  if (p.q.dtype == DType::f16) return run<f16>(a, context.stream);
  if (p.q.dtype == DType::bf16) return run<bf16>(a, context.stream);
  return run<float>(a, context.stream);
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(AttentionBackward, attentionBackward,
                                      attentionBackwardWorkspace);

}  // namespace
}  // namespace longspan::cuda
