// What of the products of a token with many columns is largest: hashing and assignment to clusters.
#pragma once

#include "cpp/ops/sparse/lsh_buckets.h"
#include "cuda/context.h"
#include "cuda/sparse/token_rows.cuh"

namespace longspan::cuda {

struct ProjectionJob {
  AnyElements x, columns;
  int64_t xBatch, xHead, xToken, xStep;  // strides
  // Column c of round r of head h begins at h * columnHead + r * columnRound + c * columnColumn.
  int64_t columnHead, columnRound, columnColumn, columnStep;
  const int32_t* lengths;  // null: no padding
  int64_t heads, n, dim;
  int rounds, factors;
  int columnsOf[ops::kMostFactors];  // of each factor
  bool hashes;                       // -x counts as well: two buckets per column
  int32_t none;                      // the group of padding
  int32_t* groups;                   // [B, H, rounds, N]
  float* scores;                     // [B, H, N]; null: not wanted
};

// x [B, H, N, D]; lengths: undefined without padding. The job's other fields are set before.
Status launchProjection(ProjectionJob job, const TensorView& x, const TensorView& lengths,
                        Context& context);

}  // namespace longspan::cuda
