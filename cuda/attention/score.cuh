// What happens to a product q . k before the softmax, as on the CPU (cpp/cpu/attention/score.h).
// logit = factor * prepare(product) + what terms.cuh adds, base 2. The common case, a positive
// scale and nothing else, has nothing to prepare: its factor goes into the FMA that subtracts the
// maximum. Soft-capping, terms (and scales that are not positive, whose product with -inf would be
// no mask) are a uniform branch.
#pragma once

#include "cuda/ptx.cuh"

namespace longspan::cuda {

inline constexpr float kLog2E = 1.44269504f;
inline constexpr float kLn2 = 0.693147181f;

// Relative error of a few ulp: an odd polynomial below 0.625 (coefficients of Moshier's Cephes),
// 1 - 2 / (e^2x + 1) above. tanh.approx would put 2^-11 of the cap into the logits.
__device__ __forceinline__ float tanhOf(float x) {
  const float size = fabsf(x), square = x * x;
  const float e = ptx::exp2Approx(fminf(size, 20.0f) * (2 * kLog2E));
  const float far = 1.0f - 2.0f / (e + 1.0f);
  float near = fmaf(square, -5.70498872745e-3f, 2.06390887954e-2f);
  near = fmaf(square, near, -5.37397155531e-2f);
  near = fmaf(square, near, 1.33314422036e-1f);
  near = fmaf(square, near, -3.33332819422e-1f);
  near = fmaf(size * square, near, size);
  const float result = size < 0.625f ? near : far;
  return x == x ? (x < 0 ? -result : result) : x;
}

struct Score {
  float factor = 1;  // positive
  float scale = 1;   // natural: of the gradients of q and k
  float before = 1, cap = 0;
  bool plain = true;

  Score() = default;
  Score(double s, double softcap, bool hasTerms) : scale(static_cast<float>(s)) {
    constexpr double log2e = 1.4426950408889634;
    plain = s > 0 && softcap == 0 && !hasTerms;
    factor = plain ? static_cast<float>(s * log2e) : 1.0f;
    before = static_cast<float>(softcap > 0 ? s / softcap : s * log2e);
    cap = static_cast<float>(softcap * log2e);
  }

  // Only where !plain.
  __device__ __forceinline__ float prepare(float product) const {
    return cap > 0 ? cap * tanhOf(product * before) : product * before;
  }
  // Also the derivative of the natural logit by (scale * product).
  __device__ __forceinline__ float prepare(float product, float& slope) const {
    slope = 1.0f;
    if (cap == 0) return product * before;
    const float t = tanhOf(product * before);
    slope = 1.0f - t * t;
    return cap * t;
  }
};

}  // namespace longspan::cuda
