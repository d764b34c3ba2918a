// Exact attention, forward: blocks of queries walk over tiles of keys with an online softmax (Dao
// et al. 2022; Dao 2023 for the order of loops). No score leaves the registers of its warp.
//
// Cost per visible pair: 2 (D + Dv) FLOPs and one exponential. Bytes: q, o once; k, v once per
// block of 64 or 128 queries, mostly from L2. Tiles that the mask excludes are skipped, and only
// tiles that its edge crosses are compared key by key.
//
// Predicted for an H200, from mma.sync at about 60 % of the rate of wgmma and one ldmatrix per four
// mma: bf16, 8192 tokens, no mask: 250 (D 64), 300 (D 128) and 200 (D 256) TFLOP/s; causal 0.9 of
// it. f32 on the CUDA cores (67 TFLOP/s): 30 TFLOP/s. With bias, ALiBi or segments in 16 bits 0.6
// of that (smaller tiles, and some instructions per pair beside 256 of the products), with dropout
// 0.4. Not yet run on hardware.
#include "cpp/ops/attention/attention.h"
#include "cuda/attention/forward16.cuh"
#include "cuda/attention/forward32.cuh"
#include "cuda/attention/sequences.cuh"

namespace longspan::cuda {
namespace {

template <class Tile, class... Extra>
Status runTile(const ForwardArguments& a, void (*kernel)(ForwardArguments, Extra...),
               cudaStream_t stream, Extra... extra) {
  const Problem& p = a.problem;
  dim3 grid;
  LONGSPAN_RETURN_IF_ERROR(
      gridOf(int64_t{p.tiles(p.queries, Tile::kRows)} * p.queryHeads * p.batch, &grid));
  return launched(
      launch(kernel, grid, dim3(Tile::kThreads), Tile::kSharedBytes, stream, a, extra...));
}

// At 256 dimensions no registers are left for a block mask (lib/attention refuses it earlier).
Status refuseMask(const Problem& p) {
  if (p.terms.mask.rows == nullptr || std::max(p.dim, p.valueDim) <= 128) return {};
  return Status(Code::unsupported, "blockMask", "head dimensions over 128 in 16 bits on a GPU",
                "Use f32, or the CPU");
}

template <class T>
Status run16(const ForwardArguments& a, cudaStream_t stream) {
  LONGSPAN_RETURN_IF_ERROR(refuseMask(a.problem));
  return dispatchDim(a.problem, [&](auto dim) -> Status {
    constexpr int kDim = decltype(dim)::value;
    using Tile = ForwardTile<T, kDim>;
    if constexpr (!Tile::kTerms) {
      if (a.problem.terms.any) {
        return runTile<ForwardTile<T, kDim, true>>(a, attentionForward16Terms<kDim, Band>, stream,
                                                   std::is_same_v<T, bf16>);
      }
    }
    return runTile<Tile>(a, attentionForward16<Tile, Band>, stream);
  });
}

Status run32(const ForwardArguments& a, cudaStream_t stream) {
  return dispatchDim(a.problem, [&](auto dim) {
    using Tile = ForwardTile32<decltype(dim)::value>;
    return runTile<Tile>(a, attentionForward32<Tile, Band>, stream);
  });
}

Status attention(const ops::Attention& p, Context& context) {
  if (p.o.numel() == 0) return {};
  ForwardArguments a{problemOf(p), operandOf(p.headMajor(p.o)),
                     p.lse.defined() ? p.lse.data<float>() : nullptr};
  LONGSPAN_RETURN_IF_ERROR(findSequences(p, a.problem, context.workspace.data, context.stream));
  if (p.q.dtype == DType::f16) return run16<f16>(a, context.stream);
  if (p.q.dtype == DType::bf16) return run16<bf16>(a, context.stream);
  return run32(a, context.stream);
}

size_t attentionWorkspace(const ops::Attention& p, const Gpu&) { return sequenceStartsBytes(p); }

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Attention, attention, attentionWorkspace);

}  // namespace
}  // namespace longspan::cuda
