// Sorted attention in f64: the same pairs and logits by plain loops, for checking gradients.
#pragma once

#include "cpp/ops/sparse/sorted_attention.h"

namespace longspan::cpu {

void sortedAttentionDouble(const ops::SortedAttention& p, const int32_t* places, Context& context);
void sortedAttentionBackwardDouble(const ops::SortedAttentionBackward& p, const int32_t* places,
                                   Context& context);

}  // namespace longspan::cpu
