// matmul by cuBLASLt, where LONGSPAN_CUBLASLT asks for it (cuda/cublaslt.h).
#pragma once

#include "cuda/dense/matmul_plan.h"

namespace longspan::cuda::matmul {

// Bytes of workspace that the product may want there.
size_t cublasLtWorkspace(const Plan& plan, const ops::Matmul& p, const Gpu& gpu);

// Computes the product there, or leaves it to the plan (`done` stays false): without a library,
// where it cannot express the product, and with `auto` where the plan's kernels are as quick. That
// is found out when a shape is first met, by running both on the call's own stream and memory: the
// one call that waits for the GPU. It is never done while a graph is recorded; the plan serves
// there until then.
Status runCublasLt(const Plan& plan, const ops::Matmul& p, Context& context, bool* done);

}  // namespace longspan::cuda::matmul
