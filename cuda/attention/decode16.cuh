// Decoding with 16-bit caches on tensor cores: up to 16 rows (heads of a group times new tokens)
// per block; each warp walks over tiles of 16 keys of its own, kStages deep in flight, without any
// barrier of the block before the end.
#pragma once

#include "cuda/attention/decode.cuh"
#include "cuda/attention/warp_attention.cuh"

namespace longspan::cuda {

template <class T_, int kDim_>
struct DecodeTile {
  using T = T_;
  static constexpr int kDim = kDim_;
  static constexpr int kRows = 16, kKeys = 16;
  static constexpr int kWarps = kDim <= 128 ? 4 : 2, kThreads = 32 * kWarps;
  static constexpr int kStages = kDim == 64 ? 4 : 2;
  static constexpr int kTile = kKeys * kDim;
  using Queries = std::conditional_t<kDim <= 128, HeldRows<T, kDim, 1>, SharedRows<T, kDim, 1>>;
  static constexpr int kSharedBytes =
      (kRows * kDim + kWarps * kStages * 2 * kTile) * static_cast<int>(sizeof(T));
};

template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads) attentionDecode16(DecodeArguments a) {
  using T = typename Tile::T;
  constexpr int kDim = Tile::kDim, kKeys = Tile::kKeys, kRows = Tile::kRows,
                kStages = Tile::kStages, kWarps = Tile::kWarps;
  LONGSPAN_SHARED(shared);
  T* const queries = reinterpret_cast<T*>(shared);  // [kRows][kDim]
  const Problem& p = a.problem;
  const DecodePlace place(a);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  T* const stages = queries + kRows * kDim + warp * kStages * 2 * Tile::kTile;  // of this warp

  const Mask mask = p.band(place.b);
  const Range keys = splitKeys(mask, a.splits, place.split);
  const Rows<T> k = rowsOf<T>(p.k, place.b, place.g, p.dim);
  const Rows<T> v = rowsOf<T>(p.v, place.b, place.g, p.valueDim);
  const int begin = keys.begin / kKeys * kKeys;
  const int tiles = keys.empty() ? 0 : (keys.end - begin + kKeys - 1) / kKeys;
  const auto load = [&](int i) {  // the warp's i-th tile
    const int tile = i * kWarps + warp;
    if (tile < tiles) {
      T* stage = stages + i % kStages * 2 * Tile::kTile;
      loadTile<kDim, kKeys, 32>(stage, k, begin + tile * kKeys, keys.end, lane);
      loadTile<kDim, kKeys, 32>(stage + Tile::kTile, v, begin + tile * kKeys, keys.end, lane);
    }
    ptx::copyCommit();  // also an empty group: the count of groups in flight stays the same
  };
#pragma unroll
  for (int i = 0; i + 1 < kStages; ++i) load(i);

  const int firstRow = place.rowTile * kRows, lanes = a.lanes();
  for (int at = threadIdx.x; at < kRows * kDim; at += Tile::kThreads) {
    const int r = at / kDim, column = at % kDim;
    T x{};
    if (firstRow + r < lanes && column < p.dim) {
      const DecodeTarget<T> from(p, place.g, firstRow + r);
      x = rowsOf<T>(p.q, place.b, from.h, p.dim).at(from.token, column);
    }
    chunkAt<kDim>(queries, r, column / 8)[column % 8] = x;
  }
  if constexpr (!kPlanted<Planted::decodeQueryBarrier>) __syncthreads();
  WarpAttention<T, kDim, 1, typename Tile::Queries> state;
  state.clear();
  state.q.load(queries, 0);
  const int tokens[2] = {(firstRow + state.rowOf(0, 0)) % p.queries,
                         (firstRow + state.rowOf(0, 1)) % p.queries};

  for (int i = 0; i * kWarps + warp < tiles; ++i) {
    // All lanes are done with the stage that is filled next.
    if constexpr (!kPlanted<Planted::decodeWarp>) __syncwarp();
    load(i + kStages - 1);
    if constexpr (!kPlanted<Planted::decodeWait>) ptx::copyWait<kStages - 1>();
    if constexpr (!kPlanted<Planted::decodeArrival>) __syncwarp();
    const T* stage = stages + i % kStages * 2 * Tile::kTile;
    const int first = begin + (i * kWarps + warp) * kKeys;
    const bool masked = !mask.whole(0, p.queries, {first, first + kKeys}) || first < keys.begin ||
                        first + kKeys > keys.end;
    Weights<1, kKeys> weights;
    state.template weigh<kKeys>(
        p.score, stage, 0, masked,
        [&](int r) {
          const int token = r % 16 < 8 ? tokens[0] : tokens[1];
          const Range seen = mask.from(first).keysOf(token, token + 1);
          return Range{max(seen.begin, keys.begin - first), min(seen.end, keys.end - first)};
        },
        [](auto&&) {}, weights);
    multiplyByColumns<kDim>(state.o, weights, stage + Tile::kTile, 0);
  }
  ptx::copyWait<0>();
  state.finish();
  // The warps' states take the place of the stages.
  if constexpr (!kPlanted<Planted::decodeReuseBarrier>) __syncthreads();
  float* const outputs = reinterpret_cast<float*>(shared);  // [kWarps][kRows][kDim]
  float* const tops = outputs + kWarps * kRows * kDim;      // [kWarps][kRows]
  float* const sums = tops + kWarps * kRows;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int r = warp * kRows + state.rowOf(0, h);
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      outputs[r * kDim + state.columnOf(n, 0)] = state.o.at[0][n][2 * h];
      outputs[r * kDim + state.columnOf(n, 1)] = state.o.at[0][n][2 * h + 1];
    }
    if (lane % 4 == 0) {
      tops[r] = state.state[0][h].top;
      sums[r] = state.state[0][h].sum;
    }
  }
  if constexpr (!kPlanted<Planted::decodeStateBarrier>) __syncthreads();
  mergeWarps<T, kDim, kRows, kWarps>(a, place, outputs, tops, sums);
}

}  // namespace longspan::cuda
