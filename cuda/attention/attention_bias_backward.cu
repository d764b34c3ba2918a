// The gradient of the bias of exact attention: dS, summed over whatever the bias is repeated over.
//
// A block owns a tile of the gradient, 64 (f32: 32) queries by 64 keys, and keeps its sum in
// registers. Where the bias is repeated along an axis, the block walks along it: over batch
// entries, heads, tiles of queries, tiles of keys, in this order, so that every element is summed
// by one block in one order: deterministic, no atomics, no matrix of scores. Scores and dP are
// computed 64 dimensions at a time, which makes one kernel serve all head dimensions; two stages,
// so that the next 64 arrive while these are multiplied. All types share one kernel behind a
// uniform branch.
//
// Cost per visible pair: 2 (D + Dv) FLOPs and one exponential, on top of the backward pass. Bytes:
// 64 rows of both sides per tile of pairs from L2, the gradient once.
//
// Predicted for an H200, bf16, D 128, a bias [1, H, N, N] with B 8: 150 TFLOP/s, about a third of
// the time of the backward pass; f32 20. A bias with few elements, [1, H, 1, 1] say, is summed by
// as many blocks and leaves most of the GPU idle. Right on an H200, not timed there.
#include "cpp/ops/attention/attention_bias_backward.h"
#include "cuda/any_element.cuh"
#include "cuda/attention/backward.cuh"
#include "cuda/attention/bias_tile.cuh"
#include "cuda/dispatch.cuh"

namespace longspan::cuda {
namespace {

// Steps along an axis of the scores, in tiles for queries and keys: of a block, and of all blocks.
struct Axis {
  int blocks = 1, steps = 1;
  int64_t stride = 0;  // of the gradient
  bool summed = false;
};

struct BiasArguments {
  BackwardArguments backward;
  AnyElements gradBias;
  Axis axes[4];  // batch entries, heads, queries, keys
};

// A step of a block: 64 dimensions of one tile of pairs.
struct BiasStep {
  int at[4];  // batch entry, head, tile of queries, tile of keys
  int chunk;  // of the dimensions: first those of Q and K, then those of dO and V
};

template <class Tile>
struct BiasWalk {
  using T = typename Tile::T;
  const BiasArguments& a;
  int first[4];

  __device__ __forceinline__ explicit BiasWalk(const BiasArguments& arguments) : a(arguments) {
    int64_t block = blockIdx.x;
#pragma unroll
    for (int axis = 3; axis >= 0; --axis) {
      const int blocks = a.axes[axis].blocks;
      first[axis] = static_cast<int>(block % blocks);
      block /= blocks;
    }
  }
  __device__ __forceinline__ const Problem& problem() const { return a.backward.problem; }
  __device__ __forceinline__ int firstChunks() const {
    return (problem().dim + kBiasDims - 1) / kBiasDims;
  }
  __device__ __forceinline__ int chunks() const {
    return firstChunks() + (problem().valueDim + kBiasDims - 1) / kBiasDims;
  }
  __device__ __forceinline__ BiasStep start() const {
    BiasStep s{{first[0], first[1], first[2], first[3]}, 0};
    if (!done(s) && !seen(s)) advance(s, true);
    return s;
  }
  __device__ __forceinline__ bool done(const BiasStep& s) const {
    return s.at[0] >= first[0] + a.axes[0].steps;
  }
  __device__ __forceinline__ bool seen(const BiasStep& s) const {
    const int row = s.at[2] * Tile::kRows, column = s.at[3] * Tile::kColumns;
    const Range keys = problem().band(s.at[0]).keysOf(row, row + Tile::kRows);
    return keys.begin < column + Tile::kColumns && keys.end > column &&
           !problem().hides(s.at[0], s.at[1], {row, row + Tile::kRows},
                            {column, column + Tile::kColumns});
  }
  // To the next chunk, or past the tile; tiles of which nothing is seen are left out.
  __device__ __forceinline__ void advance(BiasStep& s, bool pastTile = false) const {
    if (!pastTile && ++s.chunk < chunks()) return;
    s.chunk = 0;
    do {
      int axis = 3;
      while (axis > 0 && ++s.at[axis] >= first[axis] + a.axes[axis].steps) {
        s.at[axis] = first[axis];
        --axis;
      }
      if (axis == 0) ++s.at[0];
    } while (!done(s) && !seen(s));
  }
  __device__ __forceinline__ static Rows<T> dimensionsFrom(Rows<T> rows, int chunk) {
    rows.data += chunk * kBiasDims * rows.step;
    rows.width -= chunk * kBiasDims;
    return rows;
  }
  // stage: a tile of rows, then one of columns.
  __device__ __forceinline__ void load(const BiasStep& s, T* stage) const {
    const Problem& p = problem();
    const int b = s.at[0], h = s.at[1], row = s.at[2] * Tile::kRows,
              column = s.at[3] * Tile::kColumns;
    const Band band = p.band(b);
    const bool scores = s.chunk < firstChunks();
    const int chunk = scores ? s.chunk : s.chunk - firstChunks();
    const int width = scores ? p.dim : p.valueDim;
    const Rows<T> rows =
        dimensionsFrom(rowsOf<T>(scores ? p.q : a.backward.gradO, b, h, width), chunk);
    const Rows<T> columns =
        dimensionsFrom(rowsOf<T>(scores ? p.k : p.v, b, h / p.group(), width), chunk);
    Tile::template load<Tile::kRows>(stage, rows, row,
                                     scores || a.backward.hasGradO ? band.queries : 0);
    Tile::template load<Tile::kColumns>(stage + Tile::kOperand, columns, column, band.keys);
  }
  // sum += dS of the tile, from its scores and dP.
  __device__ __forceinline__ void add(const BiasStep& s, typename Tile::Values& scores,
                                      typename Tile::Values& gradients,
                                      typename Tile::Values& sum) const {
    const Problem& p = problem();
    const int b = s.at[0], h = s.at[1], row = s.at[2] * Tile::kRows,
              column = s.at[3] * Tile::kColumns;
    const Sequence sequence = p.entry(b);
#pragma unroll
    for (int e = 0; e < Tile::kEach; ++e) {
      Tile::at(scores, e) = p.score.prepare(Tile::at(scores, e));
    }
    addTerms<T>(p, sequence, h, [&](auto&& f) {
#pragma unroll
      for (int e = 0; e < Tile::kEach; ++e) {
        f(Tile::at(scores, e), row + Tile::rowOf(e), column + Tile::columnOf(e));
      }
    });
    const uint32_t dropped = p.terms.drops() ? Tile::dropped(p, sequence, h, row, column) : 0;
    const int64_t statistics = (int64_t{b} * p.queryHeads + h) * p.queries;
#pragma unroll
    for (int e = 0; e < Tile::kEach; ++e) {
      const int i = row + Tile::rowOf(e), j = column + Tile::columnOf(e);
      if (!sequence.band.sees(i, j)) continue;
      const float weight = ptx::exp2Approx(Tile::at(scores, e) - a.backward.base[statistics + i]);
      const float kept = (dropped >> e & 1) != 0 ? 0.0f : p.terms.grown;
      Tile::at(sum, e) +=
          weight * fmaf(Tile::at(gradients, e), kept, -a.backward.delta[statistics + i]);
    }
  }
};

// Writes the tile, summed over its rows or columns where all share an element.
template <class Tile>
__device__ __forceinline__ void storeTile(const BiasArguments& a, const int (&first)[4],
                                          typename Tile::Values& sum, float* tile) {
  constexpr int kWidth = Tile::kColumns + 1;
  const Problem& p = a.backward.problem;
  const int thread = threadIdx.x;
#pragma unroll
  for (int e = 0; e < Tile::kEach; ++e) {
    tile[Tile::rowOf(e) * kWidth + Tile::columnOf(e)] = Tile::at(sum, e);
  }
  if constexpr (!kPlanted<Planted::biasTileBarrier>) __syncthreads();
  int rows = Tile::kRows, columns = Tile::kColumns;
  if (a.axes[2].summed) {
    if (thread < columns) {
      for (int r = 1; r < rows; ++r) tile[thread] += tile[r * kWidth + thread];
    }
    rows = 1;
    if constexpr (!kPlanted<Planted::biasRowsBarrier>) __syncthreads();
  }
  if (a.axes[3].summed) {
    if (thread < rows) {
      for (int c = 1; c < columns; ++c) tile[thread * kWidth] += tile[thread * kWidth + c];
    }
    columns = 1;  // and each is written by the thread that summed it
  }
  const int row = first[2] * Tile::kRows, column = first[3] * Tile::kColumns;
  const int64_t target = first[0] * a.axes[0].stride + first[1] * a.axes[1].stride +
                         row * a.axes[2].stride + column * a.axes[3].stride;
  for (int at = thread; at < rows * columns; at += kBiasThreads) {
    const int r = at / columns, c = at % columns;
    if (row + r >= p.queries || column + c >= p.keys) continue;
    a.gradBias.store(target + r * a.axes[2].stride + c * a.axes[3].stride, tile[r * kWidth + c]);
  }
}

template <class Tile>
__device__ __forceinline__ void biasBackward(const BiasArguments& a, uint8_t* shared) {
  using T = typename Tile::T;
  T* const stages = reinterpret_cast<T*>(shared);  // two of rows and columns
  const BiasWalk<Tile> walk(a);
  typename Tile::Values scores, gradients, sum;
  Tile::clear(sum);
  BiasStep now = walk.start();
  if (!walk.done(now)) walk.load(now, stages);
  ptx::copyCommit();
  for (int step = 0; !walk.done(now); ++step) {
    if constexpr (!kPlanted<Planted::biasWait>) ptx::copyWait<0>();
    // The stage has come, and all warps are done with the one before.
    if constexpr (!kPlanted<Planted::biasBarrier>) __syncthreads();
    BiasStep next = now;
    walk.advance(next);
    if (!walk.done(next)) walk.load(next, stages + (step + 1) % 2 * 2 * Tile::kOperand);
    ptx::copyCommit();
    const T* const rows = stages + step % 2 * 2 * Tile::kOperand;
    if (now.chunk == 0) Tile::clear(scores), Tile::clear(gradients);
    if (now.chunk < walk.firstChunks()) {
      Tile::multiply(scores, rows, rows + Tile::kOperand);
    } else {
      Tile::multiply(gradients, rows, rows + Tile::kOperand);
    }
    if (now.chunk + 1 == walk.chunks()) walk.add(now, scores, gradients, sum);
    now = next;
  }
  // The tile takes the place of the stages.
  if constexpr (!kPlanted<Planted::biasReuseBarrier>) __syncthreads();
  storeTile<Tile>(a, walk.first, sum, reinterpret_cast<float*>(shared));
}

__global__ void __launch_bounds__(kBiasThreads, 2)
    attentionBiasBackwardKernel(BiasArguments a, DType dtype) {
  LONGSPAN_SHARED(shared);
  dispatchNarrow(
      dtype, [&](auto tag) { biasBackward<BiasTile<typename decltype(tag)::type>>(a, shared); });
}

template <class T>
Status run(const ops::AttentionBiasBackward& p, BiasArguments a, cudaStream_t stream) {
  using Tile = BiasTile<T>;
  const TensorView target = p.target();
  const int64_t tiles[] = {p.batch(), p.queryHeads(), (p.queries() + Tile::kRows - 1) / Tile::kRows,
                           (p.keys() + Tile::kColumns - 1) / Tile::kColumns};
  int64_t blocks = 1;
  for (int i = 0; i < 4; ++i) {
    Axis& axis = a.axes[i];
    axis.summed = target.stride[i] == 0 && target.shape[i] != 1;
    axis.stride = target.stride[i];
    (axis.summed ? axis.steps : axis.blocks) = static_cast<int>(tiles[i]);
    blocks *= axis.blocks;
  }
  dim3 grid;
  LONGSPAN_RETURN_IF_ERROR(gridOf(blocks, &grid));
  LONGSPAN_RETURN_IF_ERROR(backwardStatistics(a.backward, p.q.dtype, stream));
  return launched(launch(attentionBiasBackwardKernel, grid, dim3(kBiasThreads),
                         4 * Tile::kOperand * sizeof(T), stream, a, p.q.dtype));
}

size_t attentionBiasBackwardWorkspace(const ops::AttentionBiasBackward& p, const Gpu&) {
  return static_cast<size_t>(statisticsOf(p)) * sizeof(float);
}

Status attentionBiasBackward(const ops::AttentionBiasBackward& p, Context& context) {
  if (p.gradBias.numel() == 0) return {};
  BiasArguments a{};
  a.backward = backwardArguments(p, context.workspace.data);
  a.gradBias = AnyElements(p.gradBias);
  return dispatchNarrow(
      p.q.dtype, [&](auto tag) { return run<typename decltype(tag)::type>(p, a, context.stream); });
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(AttentionBiasBackward, attentionBiasBackward,
                                      attentionBiasBackwardWorkspace);

}  // namespace
}  // namespace longspan::cuda
