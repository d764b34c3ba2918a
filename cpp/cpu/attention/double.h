// Exact attention in f64: the same masks and scores by plain loops, for checking gradients.
#pragma once

#include "cpp/cpu/attention/band.h"
#include "cpp/ops/attention/attention_backward.h"
#include "cpp/ops/attention/attention_bias_backward.h"

namespace longspan::cpu {

// Of the whole sequence or of new tokens; o and lse (may be absent) are the outputs.
void attentionDouble(const ops::AttentionProblem& p, const TensorView& o, const TensorView& lse,
                     const std::vector<Band>& bands, Context& context);
void attentionBackwardDouble(const ops::AttentionBackward& p, const std::vector<Band>& bands,
                             Context& context);
void attentionBiasBackwardDouble(const ops::AttentionBiasBackward& p,
                                 const std::vector<Band>& bands, Context& context);

}  // namespace longspan::cpu
