// Exact attention, forward: blocks of queries walk over tiles of keys with an online softmax (Dao
// et al. 2022; Dao 2023 for the order of loops). No score leaves the registers of its warp.
//
// Cost per visible pair: 2 (D + Dv) FLOPs and one exponential. Bytes: q, o once; k, v once per
// block of 64 or 128 queries, mostly from L2. Tiles that the mask excludes are skipped, and only
// tiles that its edge crosses are compared key by key.
//
// Predicted for an H200, from mma.sync at about 60 % of the rate of wgmma and one ldmatrix per four
// mma: bf16, 8192 tokens, no mask: 250 (D 64), 300 (D 128) and 200 (D 256) TFLOP/s; causal 0.9 of
// it. f32 on the CUDA cores (67 TFLOP/s): 30 TFLOP/s. Not yet run on hardware.
#include "cpp/ops/attention/attention.h"
#include "cuda/attention/forward16.cuh"
#include "cuda/attention/forward32.cuh"

namespace longspan::cuda {
namespace {

template <class T>
Status run16(const ForwardArguments& a, cudaStream_t stream) {
  return dispatchDim(a.problem, [&](auto dim) {
    using Tile = ForwardTile<T, decltype(dim)::value>;
    const Problem& p = a.problem;
    const int64_t tiles = (p.queries + Tile::kRows - 1) / Tile::kRows;
    dim3 grid;
    LONGSPAN_RETURN_IF_ERROR(gridOf(tiles * p.queryHeads * p.batch, &grid));
    return launched(launch(attentionForward16<Tile, Band>, grid, dim3(Tile::kThreads),
                           Tile::kSharedBytes, stream, a));
  });
}

Status run32(const ForwardArguments& a, cudaStream_t stream) {
  return dispatchDim(a.problem, [&](auto dim) {
    using Tile = ForwardTile32<decltype(dim)::value>;
    const Problem& p = a.problem;
    const int64_t tiles = (p.queries + Tile::kRows - 1) / Tile::kRows;
    dim3 grid;
    LONGSPAN_RETURN_IF_ERROR(gridOf(tiles * p.queryHeads * p.batch, &grid));
    return launched(launch(attentionForward32<Tile, Band>, grid, dim3(Tile::kThreads),
                           Tile::kSharedBytes, stream, a));
  });
}

Status attention(const ops::Attention& p, Context& context) {
  LONGSPAN_RETURN_IF_ERROR(refuseTerms(p));
  if (p.o.numel() == 0) return {};
  ForwardArguments a{problemOf(p), operandOf(p.headMajor(p.o)),
                     p.lse.defined() ? p.lse.data<float>() : nullptr};
  if (p.q.dtype == DType::f16) return run16<f16>(a, context.stream);
  if (p.q.dtype == DType::bf16) return run16<bf16>(a, context.stream);
  return run32(a, context.stream);
}

LONGSPAN_CUDA_OPERATOR(Attention, attention);

}  // namespace
}  // namespace longspan::cuda
