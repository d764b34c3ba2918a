// Sorted attention in f64: the same pairs and logits by plain loops, for checking gradients.
#pragma once

#include "cpp/ops/attention/problem.h"
#include "cpp/ops/sparse/sorted_attention.h"

namespace longspan::cpu {

void sortedAttentionDouble(const ops::SortedAttention& p, const int32_t* places, Context& context);
void sortedAttentionBackwardDouble(const ops::SortedAttentionBackward& p, const int32_t* places,
                                   Context& context);

// The row of one query, its pairs one by one: to the bit what sortedAttentionDouble makes of them
// in this order.
class DoubleRow {
 public:
  void start(const TensorView& q, int64_t b, int64_t h, int64_t token);
  // A key and its value, seen in `count` rounds.
  void add(const ops::SortedAttentionProblem& p, const TensorView& k, const TensorView& v,
           int64_t row, int64_t count, bool isSelf);
  void finish(const TensorView& o);

 private:
  const TensorView* q_ = nullptr;
  int64_t b_ = 0, h_ = 0, token_ = 0;
  double maximum_ = 0, sum_ = 0;
  double out_[ops::kMaxHeadDim] = {};
};

}  // namespace longspan::cpu
