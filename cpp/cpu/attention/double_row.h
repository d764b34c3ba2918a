// Rows of f64 tensors and their arithmetic, as the checking kernels use them.
#pragma once

#include "cpp/core/tensor_view.h"

namespace longspan::cpu {

// A row of head (b, h) of a [B, H, tokens, dim] view.
struct Row {
  double* at;
  int64_t step, dim;
  Row(const TensorView& t, int64_t b, int64_t h, int64_t i)
      : at(t.data<double>() + b * t.stride[0] + h * t.stride[1] + i * t.stride[2]),
        step(t.stride[3]),
        dim(t.shape[3]) {}
  double& operator[](int64_t d) const { return at[d * step]; }
};

inline double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (int64_t d = 0; d < a.dim; ++d) sum += a[d] * b[d];
  return sum;
}

inline void addTo(const Row& y, double factor, const Row& x) {
  for (int64_t d = 0; d < y.dim; ++d) y[d] += factor * x[d];
}

inline void clear(const Row& y) {
  for (int64_t d = 0; d < y.dim; ++d) y[d] = 0;
}

}  // namespace longspan::cpu
