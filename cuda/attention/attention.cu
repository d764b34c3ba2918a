// Exact attention, forward: blocks of queries walk over tiles of keys with an online softmax (Dao
// et al. 2022; Dao 2023 for the order of loops). No score leaves the registers of its warp.
//
// Cost per visible pair: 2 (D + Dv) FLOPs and one exponential. Bytes: q, o once; k, v once per
// block of 64 or 128 queries, mostly from L2. Tiles that the mask excludes are skipped, and only
// tiles that its edge crosses are compared key by key.
//
// 16-bit floats have wgmma on sm_90a (forward90.cuh, with its predictions) and mma.sync on older
// GPUs (forward16.cuh). Operands that bulk copies cannot read (rows or base not on 16 bytes,
// dimensions apart, heads broadcast by a step of 0) are first copied into the workspace. Block
// masks at more than 128 dimensions in 16 bits are left to the kernels for f32 (widened.cuh), which
// have registers for them: predicted at the rate of f32; that path has not yet run on hardware.
//
// Predicted for an A100 (312 TFLOP/s bf16), from peers with the same tiles: 8192 tokens, no mask:
// 160 (D 64), 180 (D 128) and 120 (D 256) TFLOP/s; causal 0.9 of it. f32 on the CUDA cores of an
// H200 (67 TFLOP/s): 30 TFLOP/s. With bias, ALiBi or segments in 16 bits 0.6 of that (smaller
// tiles, and some instructions per pair beside 256 of the products), with dropout 0.4. Those for
// sm_80 have not yet run on hardware.
#include "cpp/ops/attention/attention.h"
#include "cuda/attention/forward16.cuh"
#include "cuda/attention/forward32.cuh"
#include "cuda/attention/forward90.cuh"
#include "cuda/attention/readable.cuh"
#include "cuda/attention/sequences.cuh"
#include "cuda/attention/widened.cuh"
#include "cuda/core/sm90a.h"

namespace longspan::cuda {
namespace {

template <class Tile, class A, class... Extra>
Status runTile(const Problem& p, void (*kernel)(A, Extra...), cudaStream_t stream, const A& a,
               Extra... extra) {
  dim3 grid;
  LONGSPAN_RETURN_IF_ERROR(
      gridOf(int64_t{p.tiles(p.queries, Tile::kRows)} * p.queryHeads * p.batch, &grid));
  return launched(
      launch(kernel, grid, dim3(Tile::kThreads), Tile::kSharedBytes, stream, a, extra...));
}

// Heads whose keys and values stay in 32 MiB of L2 while their queries pass.
uint32_t sectionOf(const Problem& p) {
  const int64_t bytes = int64_t{p.keys} * (p.dim + p.valueDim) * 2 / (p.queryHeads / p.keyHeads);
  const int64_t heads = (int64_t{32} << 20) / std::max<int64_t>(bytes, 1);
  return static_cast<uint32_t>(std::clamp<int64_t>(heads, 1, int64_t{p.queryHeads} * p.batch));
}

template <class T, class Tile>
Status run90(const ForwardArguments& forward, DType type, cudaStream_t stream) {
  const Problem& p = forward.problem;
  Forward90Arguments a;
  a.forward = forward;
  a.heads = static_cast<uint32_t>(p.queryHeads) * static_cast<uint32_t>(p.batch);
  a.section = sectionOf(p);
  cudaError_t error = mapTokens(&a.q, p.q, type, p.batch, p.queryHeads, p.queries, p.dim, kPanel);
  if (error == cudaSuccess) {
    error = mapTokens(&a.k, p.k, type, p.batch, p.keyHeads, p.keys, p.dim, Tile::kKeys);
  }
  if (error == cudaSuccess) {
    error = mapTokens(&a.v, p.v, type, p.batch, p.keyHeads, p.keys, p.valueDim, Tile::kKeys);
  }
  if (error != cudaSuccess) return launched(error);
  if constexpr (Tile::kTerms) {
    return runTile<Tile>(p, attentionForward90Terms<Tile, Band>, stream, a, type == DType::bf16);
  } else {
    return runTile<Tile>(p, attentionForward90<T, Tile, Band>, stream, a);
  }
}

template <class T>
Status run16(const ForwardArguments& a, DType type, Context& context) {
  const Problem& p = a.problem;
  const bool isBf16 = type == DType::bf16, hopper = runsSm90a(context.gpu);
  return dispatchDim(p, [&](auto dim) -> Status {
    constexpr int kDim = decltype(dim)::value;
    if (hopper) {
      return p.score.plain ? run90<T, Forward90Tile<kDim, false>>(a, type, context.stream)
                           : run90<T, Forward90Tile<kDim, true>>(a, type, context.stream);
    }
    using Tile = ForwardTile<T, kDim, kDim == 256>;
    if constexpr (!Tile::kTerms) {
      if (p.terms.any) {
        return runTile<ForwardTile<T, kDim, true>>(p, attentionForward16Terms<kDim, Band>,
                                                   context.stream, a, isBf16);
      }
    }
    return runTile<Tile>(p, attentionForward16<Tile, Band>, context.stream, a);
  });
}

Status run32(const ForwardArguments& a, cudaStream_t stream) {
  return dispatchDim(a.problem, [&](auto dim) {
    using Tile = ForwardTile32<decltype(dim)::value>;
    return runTile<Tile>(a.problem, attentionForward32<Tile, Band>, stream, a);
  });
}

bool usesWgmma(const ops::Attention& p, const Gpu& gpu) {
  return p.q.dtype != DType::f32 && runsSm90a(gpu);
}

struct WidenedForward {
  Pieces pieces;
  WidenedInputs inputs;
  TensorView o;

  WidenedForward(const ops::Attention& p, std::byte* memory)
      : pieces(memory), inputs(p, pieces), o(widenedRows(p.headMajor(p.o), pieces)) {}
};

// By the kernels for f32.
Status runWidened(const ops::Attention& p, ForwardArguments a, Context& context) {
  const WidenedForward memory(p, context.workspace.data);
  LONGSPAN_RETURN_IF_ERROR(memory.inputs.fill(p, a.problem, context));
  a.o = operandOf(memory.o);
  LONGSPAN_RETURN_IF_ERROR(run32(a, context.stream));
  return convertElements(memory.o, p.headMajor(p.o), context);
}

Status attention(const ops::Attention& p, Context& context) {
  if (p.o.numel() == 0) return {};
  ForwardArguments a{problemOf(p), operandOf(p.headMajor(p.o)),
                     p.lse.defined() ? p.lse.data<float>() : nullptr};
  if (widens(p)) return runWidened(p, a, context);
  std::byte* memory = context.workspace.data;
  if (usesWgmma(p, context.gpu)) {
    Operand* const to[] = {&a.problem.q, &a.problem.k, &a.problem.v};
    int i = 0;
    for (const TensorView& t : operandsOf(p)) {
      LONGSPAN_RETURN_IF_ERROR(makeReadable(t, *to[i++], memory, context));
    }
  }
  LONGSPAN_RETURN_IF_ERROR(findSequences(p, a.problem, memory, context.stream));
  if (p.q.dtype == DType::f16) return run16<f16>(a, p.q.dtype, context);
  if (p.q.dtype == DType::bf16) return run16<bf16>(a, p.q.dtype, context);
  return run32(a, context.stream);
}

size_t attentionWorkspace(const ops::Attention& p, const Gpu& gpu) {
  if (widens(p)) return WidenedForward(p, nullptr).pieces.bytes();
  size_t bytes = sequenceStartsBytes(p);
  if (!usesWgmma(p, gpu)) return bytes;
  for (const TensorView& t : operandsOf(p)) bytes += copiedBytes(t);
  return bytes;
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Attention, attention, attentionWorkspace);

}  // namespace
}  // namespace longspan::cuda
