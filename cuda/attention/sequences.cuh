// Packed sequences: boundaries that kernels can trust, in the workspace.
#pragma once

#include "cuda/attention/problem.cuh"

namespace longspan::cuda {

inline int64_t sequenceStarts(const ops::AttentionProblem& p) { return p.sequences() + 3; }

// Bytes of workspace.
inline size_t sequenceStartsBytes(const ops::AttentionProblem& p) {
  return p.packed() ? static_cast<size_t>(2 * sequenceStarts(p)) * sizeof(int32_t) : 0;
}

// Fills `workspace` and lets the problem know it; nothing to do where sequences are not packed.
Status findSequences(const ops::AttentionProblem& p, Problem& problem, void* workspace,
                     cudaStream_t stream);

}  // namespace longspan::cuda
