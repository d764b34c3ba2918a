// What forward kernels for 16-bit inputs share: their arguments, and how a warp ends its queries.
#pragma once

#include "cuda/attention/warp_attention.cuh"

namespace longspan::cuda {

struct ForwardArguments {
  Problem problem;
  Operand o;
  float* lse;  // [B, Hq, N] or null
};

// Divides and stores the outputs of the 16 kRowTiles queries from warpRow on, and their
// log-sum-exps, through `staging` [16 kRowTiles][kDim] of the warp's own.
template <bool kFenced, class T, int kDim, int kRowTiles>
__device__ __forceinline__ void finishRows(const ForwardArguments& a, const Sequence& sequence,
                                           int h, int b, WarpSoftmax<T, kDim, kRowTiles>& warp,
                                           int warpRow, T* staging) {
  const Problem& p = a.problem;
  const int rows = p.rowCount<false>(sequence);
  const Rows<T> o = rowsOf<T>(a.o, b, h, p.valueDim).from(p.queryBegin(sequence));
  warp.finish();
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    float factor[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      RowState& state = warp.state[m][i];
      const int at = warpRow + warp.rowOf(m, i);
      factor[i] = p.finish(state, sequence, h, at);
      if (a.lse != nullptr && threadIdx.x % 4 == 0 && at < rows) {
        a.lse[(int64_t{b} * p.queryHeads + h) * p.queries + p.queryBegin(sequence) + at] =
            state.logSumExp();
      }
    }
    storeRows<kDim, kFenced>(warp.o.at[m], factor, staging + m * 16 * kDim, o, warpRow + m * 16,
                             rows);
  }
}

}  // namespace longspan::cuda
