// Decoding with f32 caches, in f32: up to 8 rows per block. A warp takes four keys at a time
// straight from global memory, the head dimension spread over its lanes. The 8 x 4 partial products
// of a lane are summed over lanes in 31 exchanges that leave lane l the score of row l / 4, key
// l % 4.
#pragma once

#include "cuda/attention/decode.cuh"

namespace longspan::cuda {

template <int kDim_>
struct DecodeTile32 {
  static constexpr int kDim = kDim_;
  static constexpr int kRows = 8, kKeys = 4;
  static constexpr int kWarps = 8, kThreads = 32 * kWarps;
  static constexpr int kEach = kDim / 32;  // columns of a lane
  static constexpr int kSharedBytes = kWarps * kRows * (kDim + 2) * 4;
};

// The columns of one lane: pieces of up to four, 32 pieces to a row.
template <int kDim>
__device__ __forceinline__ int laneColumn(int i) {
  constexpr int kPiece = kDim == 64 ? 2 : 4;
  return i / kPiece * (32 * kPiece) + threadIdx.x % 32 * kPiece + i % kPiece;
}

template <int kDim>
__device__ __forceinline__ void loadLane(float (&x)[kDim / 32], const Rows<float>& rows, int row,
                                         bool valid) {
  constexpr int kEach = kDim / 32, kPiece = kDim == 64 ? 2 : 4;
#pragma unroll
  for (int i = 0; i < kEach; i += kPiece) {
    const int column = laneColumn<kDim>(i);
    if (rows.aligned && rows.width % kPiece == 0) {
      Vector<float, kPiece> piece{};
      if (valid && column < rows.width) {
        piece =
            *reinterpret_cast<const Vector<float, kPiece>*>(rows.data + row * rows.stride + column);
      }
#pragma unroll
      for (int e = 0; e < kPiece; ++e) x[i + e] = piece.at[e];
    } else {
#pragma unroll
      for (int e = 0; e < kPiece; ++e) {
        x[i + e] = valid && column + e < rows.width ? rows.at(row, column + e) : 0.0f;
      }
    }
  }
}

// Lane l receives in x[0] the sum over lanes of x[l].
template <int kHalf = 16>
__device__ __forceinline__ void transposedSum(float (&x)[32]) {
  const bool upper = (threadIdx.x & kHalf) != 0;
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const float keep = upper ? x[i + kHalf] : x[i], give = upper ? x[i] : x[i + kHalf];
    x[i] = keep + __shfl_xor_sync(0xffffffffu, give, kHalf);
  }
  if constexpr (kHalf > 1) transposedSum<kHalf / 2>(x);
}

template <class Tile, class Mask>
__global__ void __launch_bounds__(Tile::kThreads) attentionDecode32(DecodeArguments a) {
  constexpr int kDim = Tile::kDim, kRows = Tile::kRows, kKeys = Tile::kKeys, kEach = Tile::kEach,
                kWarps = Tile::kWarps;
  LONGSPAN_SHARED(shared);
  const Problem& p = a.problem;
  const DecodePlace place(a);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Mask mask = p.band(place.b);
  const Range keys = splitKeys(mask, a, place.split);

  const int firstRow = place.rowTile * kRows, lanes = a.lanes();
  float q[kRows][kEach], o[kRows][kEach];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const bool valid = firstRow + r < lanes;
    const DecodeTarget<float> from(p, place.g, valid ? firstRow + r : 0);
    loadLane<kDim>(q[r], rowsOf<float>(p.q, place.b, from.h, p.dim), from.token, valid);
#pragma unroll
    for (int i = 0; i < kEach; ++i) o[r][i] = 0;
  }
  // Of this lane's row; the sum is over this lane's keys.
  RowState state;
  const DecodeTarget<float> row(p, place.g, min(firstRow + lane / kKeys, lanes - 1));
  bool lost = a.overflows(place.b);

  for (int key = keys.begin + warp * kKeys; key < keys.end; key += kWarps * kKeys) {
    // Where key lane % kKeys lies.
    const int mine = key + lane % kKeys;
    int entry = mine < keys.end ? place.b : Pages::kUnread, at = mine;
    if (a.pages.any()) {
      entry = a.pages.pageOf(place.b, mine, keys), at = mine % a.pages.rows;
      lost = lost || entry == Pages::kLost;
    }
    const auto loadRow = [&](float(&x)[kEach], const Operand& t, int width, int c) {
      const int from = __shfl_sync(0xffffffffu, entry, c);
      loadLane<kDim>(x, rowsOf<float>(t, max(from, 0), place.g, width),
                     __shfl_sync(0xffffffffu, at, c), from >= 0);
    };
    float scores[32];
#pragma unroll
    for (int c = 0; c < kKeys; ++c) {
      float x[kEach];
      loadRow(x, p.k, p.dim, c);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float sum = 0;
#pragma unroll
        for (int i = 0; i < kEach; ++i) sum = fmaf(q[r][i], x[i], sum);
        scores[r * kKeys + c] = sum;
      }
    }
    float value[kKeys][kEach];
    const auto loadValues = [&] {
#pragma unroll
      for (int c = 0; c < kKeys; ++c) loadRow(value[c], p.v, p.valueDim, c);
    };
    constexpr bool kLate = kLeanCode && kDim == 256;
    if constexpr (!kLate) loadValues();  // they come while scores are computed

    transposedSum(scores);
    float s = scores[0];
    if (!p.score.plain) {
      s = p.score.prepare(s);
      addTerms<float, false>(p, Sequence{mask, place.b}, row.h,
                             [&](auto&& f) { f(s, row.token, mine); });
    }
    if (mine >= keys.end || !mask.sees(row.token, mine)) s = kNegativeInfinity;
    const float shrink = state.raise(lanesMax<kKeys>(s) * p.score.factor);
    if (__any_sync(0xffffffffu, shrink != 1.0f)) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float factor = __shfl_sync(0xffffffffu, shrink, r * kKeys);
#pragma unroll
        for (int i = 0; i < kEach; ++i) o[r][i] *= factor;
      }
    }
    const float weight = ptx::exp2Approx(fmaf(s, p.score.factor, -state.base()));
    state.sum += weight;
    if constexpr (kLate) loadValues();
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kKeys; ++c) {
        const float w = __shfl_sync(0xffffffffu, weight, r * kKeys + c);
#pragma unroll
        for (int i = 0; i < kEach; ++i) o[r][i] = fmaf(w, value[c][i], o[r][i]);
      }
    }
  }
  state.sum = lanesSum<kKeys>(state.sum);
  if (__any_sync(0xffffffffu, lost)) lose(state);

  float* const outputs = reinterpret_cast<float*>(shared);  // [kWarps][kRows][kDim]
  float* const tops = outputs + kWarps * kRows * kDim;      // [kWarps][kRows]
  float* const sums = tops + kWarps * kRows;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      outputs[(warp * kRows + r) * kDim + laneColumn<kDim>(i)] = o[r][i];
    }
  }
  if (lane % kKeys == 0) {
    tops[warp * kRows + lane / kKeys] = state.top;
    sums[warp * kRows + lane / kKeys] = state.sum;
  }
  if constexpr (!kPlanted<Planted::decodeFloatBarrier>) __syncthreads();
  mergeWarps<float, kDim, kRows, kWarps>(a, place, outputs, tops, sums);
}

}  // namespace longspan::cuda
