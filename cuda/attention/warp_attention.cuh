// 16 kRowTiles queries of one warp and their online softmax over tiles of keys.
// Accumulators are f32; weights are rounded to T for the second product. Lane l holds, of row tile
// m, rows l/4 and l/4 + 8 and columns 2 (l % 4) and the next of every group of eight.
#pragma once

#include "cuda/attention/planted.cuh"
#include "cuda/attention/softmax.cuh"
#include "cuda/attention/tile16.cuh"

namespace longspan::cuda {

// What happens to scores in the registers of a warp, wherever their product was computed.
template <class T, int kDim, int kRowTiles>
struct WarpSoftmax {
  Products<kRowTiles, kDim> o;
  RowState state[kRowTiles][2];

  __device__ __forceinline__ void clear() {
    o.clear();
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) state[m][0] = state[m][1] = RowState();
  }

  // The index, within the warp's rows, of row h of row tile m.
  __device__ __forceinline__ static int rowOf(int m, int h) {
    return m * 16 + threadIdx.x % 32 / 4 + 8 * h;
  }
  __device__ __forceinline__ static int columnOf(int n, int i) {
    return n * 8 + threadIdx.x % 4 * 2 + i;
  }

  // For scores that are not plain: the cap, and what add(forEach) adds to pairs, of terms.cuh;
  // forEach(f) calls f(score, row, column).
  template <int kKeys, class Add>
  __device__ __forceinline__ void prepare(const Score& score, Products<kRowTiles, kKeys>& s,
                                          Add&& add) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) s.at[m][n][i] = score.prepare(s.at[m][n][i]);
      }
    }
    add([&](auto&& f) {  // column by column: what a column needs is not kept for all rows
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
          for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
            for (int h = 0; h < 2; ++h) f(s.at[m][n][2 * h + i], rowOf(m, h), columnOf(n, i));
          }
        }
      }
    });
  }

  // seen(r): which of the keys the warp's row r sees.
  template <int kKeys, class Seen>
  __device__ __forceinline__ void mask(Products<kRowTiles, kKeys>& s, Seen&& seen) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const Range range = seen(rowOf(m, h));
        const int begin = range.begin - columnOf(0, 0), end = range.end - columnOf(0, 0);
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int c = n * 8 + i;
            if (c < begin || c >= end) s.at[m][n][2 * h + i] = kNegativeInfinity;
          }
        }
      }
    }
  }

  // Takes notice of the largest scores; what outputs shrink by, and whether any of the warp's do.
  template <int kKeys>
  __device__ __forceinline__ bool raise(const Products<kRowTiles, kKeys>& s, float factor,
                                        float (&shrink)[kRowTiles][2]) {
    bool any = false;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float top = kNegativeInfinity;
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
          top = fmaxf(top, fmaxf(s.at[m][n][2 * h], s.at[m][n][2 * h + 1]));
        }
        shrink[m][h] = state[m][h].raise(lanesMax<4>(top) * factor);
        any = any || shrink[m][h] != 1.0f;
      }
    }
    return __any_sync(0xffffffffu, any);
  }

  __device__ __forceinline__ void rescale(const float (&shrink)[kRowTiles][2]) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) o.at[m][n][i] *= shrink[m][i / 2];
      }
    }
  }

  // Scores become weights.
  template <int kKeys>
  __device__ __forceinline__ void exponentiate(Products<kRowTiles, kKeys>& s, float factor) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float base = state[m][h].base();
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float& x = s.at[m][n][2 * h + i];
            x = ptx::exp2Approx(fmaf(x, factor, -base));
            state[m][h].sum += x;
          }
        }
      }
    }
  }

  // Sums of whole rows, in every lane that shares them.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) state[m][h].sum = lanesSum<4>(state[m][h].sum);
    }
  }
};

// With the queries as operands of mma.
template <class T, int kDim, int kRowTiles, class Queries>
struct WarpAttention : WarpSoftmax<T, kDim, kRowTiles> {
  Queries q;

  // Weights of the keys that lie in rows [row, row + kKeys) of the tile; seen(r) is asked only when
  // `masked`.
  template <int kKeys, class Seen, class Add>
  __device__ __forceinline__ void weigh(const Score& score, const T* keys, int row, bool masked,
                                        Seen&& seen, Add&& add,
                                        Weights<kRowTiles, kKeys>& weights) {
    Products<kRowTiles, kKeys> s;
    s.clear();
    multiplyByRows<kDim>(s, q, keys, row);
    if (!score.plain) this->prepare(score, s, add);
    if (masked) this->mask(s, seen);
    float shrink[kRowTiles][2];
    if (this->raise(s, score.factor, shrink)) this->rescale(shrink);
    this->exponentiate(s, score.factor);
    weights.template set<T>(s);
  }
};

}  // namespace longspan::cuda
