// Exact attention forward for f32 inputs, in f32 throughout: the walk of forward16.cuh with
// products on the CUDA cores.
#pragma once

#include "cuda/attention/forward16.cuh"
#include "cuda/attention/tile32.cuh"

namespace longspan::cuda {

template <int kDim_>
struct ForwardTile32 {
  static constexpr int kDim = kDim_;
  static constexpr int kRows = kDim <= 128 ? 64 : 32;
  static constexpr int kKeys = kDim <= 64 ? 64 : 32;
  static constexpr int kThreads = kRows / kThreadRows * 16;
  // Weights pass through shared memory unless the tiles leave no room for them (sm_86: 99 KiB).
  static constexpr bool kSharesWeights = kDim <= 128;
  static constexpr int kSharedBytes =
      ((kRows + 2 * kKeys) * kPitch<kDim> + (kSharesWeights ? kRows * kPitch<kKeys> : 0)) * 4;
};

template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads, 1) attentionForward32(ForwardArguments a) {
  constexpr int kDim = Tile::kDim, kRows = Tile::kRows, kKeys = Tile::kKeys,
                kThreads = Tile::kThreads, kColumns = kKeys / 16;
  LONGSPAN_SHARED(shared);
  float* const queries = reinterpret_cast<float*>(shared);     // [kRows][kPitch<kDim>]
  float* const keyTile = queries + kRows * kPitch<kDim>;       // [kKeys][kPitch<kDim>]
  float* const valueTile = keyTile + kKeys * kPitch<kDim>;     // [kKeys][kPitch<kDim>]
  float* const weightTile = valueTile + kKeys * kPitch<kDim>;  // [kRows][kPitch<kKeys>]
  const Problem& p = a.problem;
  const int thread = threadIdx.x, x = thread % 16, y = thread / 16;
  const TilePlace place = p.tile<false, kRows>();
  if (place.surplus) return;
  const Sequence& sequence = place.sequence;
  const Mask mask = sequence.band;
  const int row = place.row, h = place.h, b = p.entryOf(sequence);
  const Rows<float> k = rowsOf<float>(p.k, b, h / p.group(), p.dim).from(p.keyBegin(sequence));
  const Rows<float> v = rowsOf<float>(p.v, b, h / p.group(), p.valueDim).from(p.keyBegin(sequence));
  const Range keys = p.keysOf(sequence, mask, row, kRows);
  const auto visible = [&](int tile) {
    return p.visible<kKeys>(b, h, {row, row + kRows}, tile, keys.end);
  };
  const int begin = visible(keys.begin / kKeys * kKeys);

  float o[kThreadRows][kDim / 16] = {};
  RowState state[kThreadRows];
  if (begin < keys.end) {
    loadTile32<kDim, kRows, kThreads>(queries,
                                      rowsOf<float>(p.q, b, h, p.dim).from(p.queryBegin(sequence)),
                                      row, mask.queries, thread);
    loadTile32<kDim, kKeys, kThreads>(keyTile, k, begin, keys.end, thread);
    ptx::copyCommit();
  }
  for (int tile = begin; tile < keys.end;) {
    if constexpr (!kPlanted<Planted::floatKeyWait>) ptx::copyWait<0>();
    // The keys have come, and all threads are done with the values before.
    if constexpr (!kPlanted<Planted::floatKeyBarrier>) __syncthreads();
    loadTile32<kDim, kKeys, kThreads>(valueTile, v, tile, keys.end, thread);
    ptx::copyCommit();

    float s[kThreadRows][kColumns] = {};
    multiplyByRows32<kDim>(s, queries, keyTile, y, x);
    if (!p.score.plain) {
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
        for (int j = 0; j < kColumns; ++j) s[i][j] = p.score.prepare(s[i][j]);
      }
      addTerms<float>(p, sequence, h, [&](auto&& f) {
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
          for (int j = 0; j < kColumns; ++j) {
            f(s[i][j], row + kThreadRows * y + i, tile + x + 16 * j);
          }
        }
      });
    }
    const bool masked = !mask.whole(row, row + kRows, {tile, tile + kKeys});
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      float top = kNegativeInfinity;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        if (masked && !mask.sees(row + kThreadRows * y + i, tile + x + 16 * j)) {
          s[i][j] = kNegativeInfinity;
        }
        top = fmaxf(top, s[i][j]);
      }
      const float shrink = state[i].raise(lanesMax<16>(top) * p.score.factor);
      if (shrink != 1.0f) {
#pragma unroll
        for (int c = 0; c < kDim / 16; ++c) o[i][c] *= shrink;
      }
      const float base = state[i].base();
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        s[i][j] = ptx::exp2Approx(fmaf(s[i][j], p.score.factor, -base));
        state[i].sum += s[i][j];
      }
    }
    if (p.terms.drops()) {
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        const uint32_t dropped =
            droppedPairs32<false>(p, sequence, h, row + kThreadRows * y, tile + x + 16 * j);
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i) {
          if ((dropped >> i & 1) != 0) s[i][j] = 0;
        }
      }
    }
    if constexpr (Tile::kSharesWeights) {
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
#pragma unroll
        for (int j = 0; j < kColumns; ++j) {
          weightTile[(kThreadRows * y + i) * kPitch<kKeys> + x + 16 * j] = s[i][j];
        }
      }
    }
    if constexpr (!kPlanted<Planted::floatValueWait>) ptx::copyWait<0>();
    // The values and weights have come, and all threads are done with the keys.
    if constexpr (!kPlanted<Planted::floatValueBarrier>) __syncthreads();
    tile = visible(tile + kKeys);
    if (tile < keys.end) {
      loadTile32<kDim, kKeys, kThreads>(keyTile, k, tile, keys.end, thread);
      ptx::copyCommit();
    }
    if constexpr (Tile::kSharesWeights) {
      multiplyByColumns32<kDim, kKeys>(o, weightTile, valueTile, y, x);
    } else {
      multiplyByHeldWeights32<kDim>(o, s, valueTile, x);
    }
  }

  const int rows = p.rowCount<false>(sequence);
  const Rows<float> target = rowsOf<float>(a.o, b, h, p.valueDim).from(p.queryBegin(sequence));
#pragma unroll
  for (int i = 0; i < kThreadRows; ++i) {
    state[i].sum = lanesSum<16>(state[i].sum);
    const int at = row + kThreadRows * y + i;
    if (at >= rows) continue;
    storeRow32<kDim>(o[i], p.finish(state[i], sequence, h, at), target, at, x);
    if (a.lse != nullptr && x == 0) {
      a.lse[(int64_t{b} * p.queryHeads + h) * p.queries + p.queryBegin(sequence) + at] =
          state[i].logSumExp();
    }
  }
}

}  // namespace longspan::cuda
