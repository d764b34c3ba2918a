// Exact attention in f64: the same masks and scores by plain loops, for checking gradients.
#pragma once

#include "cpp/cpu/attention/band.h"
#include "cpp/ops/attention/attention.h"
#include "cpp/ops/attention/attention_backward.h"

namespace longspan::cpu {

void attentionDouble(const ops::Attention& p, const std::vector<Band>& bands, Context& context);
void attentionBackwardDouble(const ops::AttentionBackward& p, const std::vector<Band>& bands,
                             Context& context);

}  // namespace longspan::cpu
