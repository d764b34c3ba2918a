// Attention of a few new tokens against a cache, its keys split among blocks (Dao et al. 2023,
// "Flash-Decoding"), the query heads of a group packed into one block.
//
// Cost per visible key and row: 2 (D + Dv) FLOPs. Bytes: the valid part of the cache once; with
// more than 16 rows (f32: 8) again from L2 for every further 16; one state of (Dv + 2) floats per
// row and split, written and read; 4 bytes per key and key head of a paged cache. Bias, ALiBi and
// sinks as in pairs.cuh.
//
// Predicted for an H200 (4.3 TB/s): 85 % of the copy bandwidth for 16-bit caches of 8192 tokens and
// more than 64 (batch, key head) pairs, 80 % for f32; a launch of some microseconds below that.
// Right on an H200 with a kernel of its own for each 16-bit type; that one kernel serves both at 64
// and 256 dimensions has not yet run there. Times: bench/results/nvidia-h200.json.
#include "cpp/ops/attention/attention_decode.h"
#include "cuda/attention/decode16.cuh"
#include "cuda/attention/decode32.cuh"

namespace longspan::cuda {
namespace {

struct DecodePlan {
  int64_t items;
  int rowTiles, stateRows;
  ops::DecodeSplits splits;

  DecodePlan(const ops::AttentionDecode& p, const Gpu& gpu) {
    const int64_t rows = rowsPerTile(p), lanes = p.queryHeads() / p.keyHeads() * p.queries();
    rowTiles = static_cast<int>((lanes + rows - 1) / rows);
    stateRows = static_cast<int>(std::min(rows, lanes));
    items = p.batch() * p.keyHeads() * rowTiles;
    // Two waves of blocks: enough to fill the GPU and even out, few enough to merge cheaply.
    splits = p.plan((4 * gpu.multiprocessors + items - 1) / std::max<int64_t>(items, 1));
  }
  static int rowsPerTile(const ops::AttentionDecode& p) {
    return p.q.dtype == DType::f32 ? DecodeTile32<64>::kRows : DecodeTile<bf16, 64>::kRows;
  }
};

Status merge(const DecodeArguments& a, DType dtype, int tileRows, cudaStream_t stream) {
  if (a.splits == 1) return {};
  const Problem& p = a.problem;
  const int64_t rows = int64_t{p.batch} * p.queryHeads * p.queries;
  dim3 grid;
  LONGSPAN_RETURN_IF_ERROR(gridOf((rows + 3) / 4, &grid));
  return launched(launch(attentionDecodeMerge, grid, dim3(128), 0, stream, a, dtype, tileRows));
}

template <class T>
Status run(const DecodeArguments& a, int64_t items, cudaStream_t stream) {
  dim3 grid;
  LONGSPAN_RETURN_IF_ERROR(gridOf(items * a.splits, &grid));
  return dispatchDim(a.problem, [&](auto dim) {
    constexpr int kDim = decltype(dim)::value;
    using Tile =
        std::conditional_t<std::is_same_v<T, float>, DecodeTile32<kDim>, DecodeTile<T, kDim>>;
    cudaError_t error;
    if constexpr (std::is_same_v<T, float>) {
      error = launch(attentionDecode32<Tile, Band>, grid, dim3(Tile::kThreads), Tile::kSharedBytes,
                     stream, a);
    } else if constexpr (kDim != 128) {
      error = launch(attentionDecode16OfEither<kDim, Band>, grid, dim3(Tile::kThreads),
                     Tile::kSharedBytes, stream, a, dtypeOf<T>() == DType::bf16);
    } else {
      error = launch(attentionDecode16<Tile, Band>, grid, dim3(Tile::kThreads), Tile::kSharedBytes,
                     stream, a);
    }
    LONGSPAN_RETURN_IF_ERROR(launched(error));
    return merge(a, dtypeOf<T>(), Tile::kRows, stream);
  });
}

size_t attentionDecodeWorkspace(const ops::AttentionDecode& p, const Gpu& gpu) {
  const DecodePlan plan(p, gpu);
  if (plan.splits.count == 1) return 0;
  return static_cast<size_t>(plan.items * plan.splits.count * plan.stateRows * (p.valueDim() + 2)) *
         sizeof(float);
}

Status attentionDecode(const ops::AttentionDecode& p, Context& context) {
  if (p.o.numel() == 0) return {};
  const DecodePlan plan(p, context.gpu);
  const DecodeArguments a{problemOf(p),
                          operandOf(p.headMajor(p.o)),
                          p.lse.defined() ? p.lse.data<float>() : nullptr,
                          reinterpret_cast<float*>(context.workspace.data),
                          plan.rowTiles,
                          plan.stateRows,
                          static_cast<int>(plan.splits.count),
                          static_cast<int>(plan.splits.parts),
                          static_cast<int>(plan.splits.least),
                          Pages(p)};
  if (p.q.dtype == DType::f16) return run<f16>(a, plan.items, context.stream);
  if (p.q.dtype == DType::bf16) return run<bf16>(a, plan.items, context.stream);
  return run<float>(a, plan.items, context.stream);
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(AttentionDecode, attentionDecode, attentionDecodeWorkspace);

}  // namespace
}  // namespace longspan::cuda
