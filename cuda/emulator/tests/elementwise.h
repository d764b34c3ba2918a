#pragma once

#include "cpp/core/dtype.h"
#include "cuda/runtime.h"

namespace longspan::cuda {

// y[i] += a x[i]
template <class T>
cudaError_t axpy(T* y, const T* x, float a, int64_t n, cudaStream_t stream);

}  // namespace longspan::cuda
