// Decoding steps of hashing and routing.
#pragma once

#include "cuda/context.h"
#include "cuda/sparse/token_rows.cuh"

namespace longspan::cuda {

inline constexpr int kMostStepRounds = 32;  // a lane each

struct StepJob {
  TokenRows q, k, v;                       // k and v: for rings alone
  TokenRows keys, values;                  // rings as rows, or the cache
  AnyElements o;                           // [B, H, T, Dv]
  int32_t* counts;                         // [B, H, rounds, groups]
  int32_t* lists;                          // [B, H, rounds, groups, slots]; null: rings
  const int32_t* lengths;                  // [B], with lists: tokens in the cache
  const int32_t *queryGroups, *keyGroups;  // [B, H, rounds, T]
  int64_t groups;
  int rounds, slots, chunk, back;
  float scale, own;
  bool lastResort, attends;
};

// q: [B, H, T, D].
Status launchSteps(const StepJob& job, const TensorView& q, Context& context);

}  // namespace longspan::cuda
