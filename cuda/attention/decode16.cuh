// Decoding with 16-bit caches on tensor cores: up to 16 rows (heads of a group times new tokens)
// per block; each warp walks over tiles of 16 keys of its own, kStages deep in flight, without any
// barrier of the block before the end. Of a paged cache each lane looks up the page of one key of a
// tile, and the lanes that copy its row ask that one.
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
  static constexpr int kBlocks = 3;  // that shared memory leaves room for on a multiprocessor
  static constexpr int kTile = kKeys * kDim;
  using Queries = std::conditional_t<kDim <= 128, HeldRows<T, kDim, 1>, SharedRows<T, kDim, 1>>;
  static constexpr int kSharedBytes =
      (kRows * kDim + kWarps * kStages * 2 * kTile) * static_cast<int>(sizeof(T));
};

// Fills tiles of keys and values from pages: lane r < kKeys knows the page and row of key r. Rows
// without a page, and columns beyond the width, become zeros. The caller commits.
template <int kDim, int kKeys, class T>
__device__ __forceinline__ void loadFromPages(T* keys, const Operand& k, int dim, T* values,
                                              const Operand& v, int valueDim, int head, int page,
                                              int row) {
  constexpr uint32_t kAll = 0xffffffffu;
  constexpr int kChunks = kDim / 8, kStep = 32 / kChunks;
  const int lane = threadIdx.x % 32, chunk = lane % kChunks;
#pragma unroll 1  // registers are short
  for (int r = lane / kChunks; r < kKeys; r += kStep) {
    const int from = __shfl_sync(kAll, page, r), at = __shfl_sync(kAll, row, r);
    const auto load = [&](T* tile, const Operand& t, int width) {
      T* const to = chunkAt<kDim>(tile, r, chunk);
      const Rows<T> rows = rowsOf<T>(t, max(from, 0), head, width);
      const int left = from < 0 ? 0 : width - chunk * 8;
      if (rows.aligned) {
        ptx::copyAsyncZeroFill<16>(to, rows.data + at * rows.stride + chunk * 8,
                                   clampTo(left, 0, 8) * 2);
        return;
      }
      Vector<T, 8> piece;
#pragma unroll
      for (int e = 0; e < 8; ++e) piece.at[e] = e < left ? rows.at(at, chunk * 8 + e) : T{};
      *reinterpret_cast<Vector<T, 8>*>(to) = piece;
    };
    load(keys, k, dim);
    load(values, v, valueDim);
  }
}

template <class Tile, class Mask>
__device__ __forceinline__ void decode16(const DecodeArguments& a, uint8_t* shared) {
  using T = typename Tile::T;
  constexpr int kDim = Tile::kDim, kKeys = Tile::kKeys, kRows = Tile::kRows,
                kStages = Tile::kStages, kWarps = Tile::kWarps;
  T* const queries = reinterpret_cast<T*>(shared);  // [kRows][kDim]
  const Problem& p = a.problem;
  const DecodePlace place(a);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  T* const stages = queries + kRows * kDim + warp * kStages * 2 * Tile::kTile;  // of this warp

  const Mask mask = p.band(place.b);
  const Range keys = splitKeys(mask, a, place.split);
  const Rows<T> k = rowsOf<T>(p.k, place.b, place.g, p.dim);
  const Rows<T> v = rowsOf<T>(p.v, place.b, place.g, p.valueDim);
  const int begin = keys.begin / kKeys * kKeys;
  const int tiles = keys.empty() ? 0 : (keys.end - begin + kKeys - 1) / kKeys;
  // Of a paged cache the page of key lane % kKeys of the tile that is loaded next: it is asked for
  // one tile ahead.
  const auto keyOf = [&](int i) { return begin + (i * kWarps + warp) * kKeys + lane % kKeys; };
  const bool paged = a.pages.any();
  int page = paged ? a.pages.pageOf(place.b, keyOf(0), keys) : 0;
  bool lost = a.overflows(place.b);
  const auto load = [&](int i) {  // the warp's i-th tile
    const int tile = i * kWarps + warp;
    if (tile < tiles) {
      T* stage = stages + i % kStages * 2 * Tile::kTile;
      if (paged) {
        const int now = page, row = keyOf(i) % a.pages.rows;
        page = a.pages.pageOf(place.b, keyOf(i + 1), keys);
        lost = lost || now == Pages::kLost;
        loadFromPages<kDim, kKeys>(stage, p.k, p.dim, stage + Tile::kTile, p.v, p.valueDim, place.g,
                                   now, row);
      } else {
        loadTile<kDim, kKeys, 32>(stage, k, begin + tile * kKeys, keys.end, lane);
        loadTile<kDim, kKeys, 32>(stage + Tile::kTile, v, begin + tile * kKeys, keys.end, lane);
      }
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
        [&](auto&& forEach) {
    // The two rows of a thread may be of two heads.
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const DecodeTarget<T> row(p, place.g, min(firstRow + state.rowOf(0, h), lanes - 1));
            addTerms<T, false>(p, Sequence{mask, place.b}, row.h, [&](auto&& f) {
              forEach([&](float& score, int r, int c) {
                if (r % 16 / 8 == h) f(score, row.token, first + c);
              });
            });
          }
        },
        weights);
    multiplyByColumns<kDim>(state.o, weights, stage + Tile::kTile, 0);
  }
  ptx::copyWait<0>();
  state.finish();
  if (__any_sync(0xffffffffu, lost)) {
    lose(state.state[0][0]);
    lose(state.state[0][1]);
  }
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

template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocks)
    attentionDecode16(DecodeArguments a) {
  LONGSPAN_SHARED(shared);
  decode16<Tile, Mask>(a, shared);
}

// Both types share a kernel where registers allow it: not at 128 dimensions.
template <int kDim, class Mask>
__global__ void __launch_bounds__(DecodeTile<f16, kDim>::kThreads, DecodeTile<f16, kDim>::kBlocks)
    attentionDecode16OfEither(DecodeArguments a, bool isBf16) {
  LONGSPAN_SHARED(shared);
  if (isBf16) {
    decode16<DecodeTile<bf16, kDim>, Mask>(a, shared);
  } else {
    decode16<DecodeTile<f16, kDim>, Mask>(a, shared);
  }
}

}  // namespace longspan::cuda
