// What happens to a product q . k before the softmax. The score of an attention kernel is a policy:
//
//   vf below(vf product, vf m);                      // plain: logit - m, both in base 2
//   vf below(vf product, vf added, vf m);            // others, with what terms.h adds
//   vf below(vf product, vf added, vf m, vf& slope); // also d logit / d (scale * product), natural
//   static constexpr bool kPlain;                    // nothing is added, the slope is always 1
//
// The factor is applied here, by an FMA with the subtraction, and not to Q beforehand: large logits
// then cancel before anything is rounded, and forward and backward see the same bits.
#pragma once

#include "cpp/cpu/exponential.h"
#include "cpp/ops/attention/problem.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

inline constexpr double kLog2E = 1.4426950408889634;
inline constexpr float kLn2 = 0.693147181f;

struct ScaledScore {
  static constexpr bool kPlain = true;
  float factor;
  explicit ScaledScore(double scale) : factor(static_cast<float>(scale * kLog2E)) {}
  explicit ScaledScore(const ops::AttentionProblem& p) : ScaledScore(p.scale) {}
  LONGSPAN_INLINE vf below(vf product, vf m) const { return vfma(product, vbroadcast(factor), -m); }
};

// tanh with small relative error: an odd polynomial below 0.625 (coefficients of Moshier's Cephes),
// 1 - 2 / (e^2x + 1) above.
LONGSPAN_INLINE vf vtanhOf(vf x) {
  const vf size = vabs(x);
  const vf e = vexp2Fast(vmin(size, vbroadcast(20.0f)) * static_cast<float>(2 * kLog2E));
  const vf far = 1.0f - 2.0f / (e + 1.0f);
  const vf square = x * x;
  const vf near = vfma(size * square,
                       detail::poly(square, vbroadcast(-5.70498872745e-3f), 2.06390887954e-2f,
                                    -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f),
                       size);
  const vf result = vselect(size < 0.625f, near, far);
  return (vf)((vi)vselect(x == x, result, x) | ((vi)x & INT32_MIN));
}

// Every option: scale * q . k, or softcap * tanh(scale * q . k / softcap), and what terms.h adds.
struct GeneralScore {
  static constexpr bool kPlain = false;
  float factor, cap;
  bool capped;
  explicit GeneralScore(const ops::AttentionProblem& p)
      : factor(static_cast<float>(p.softcap > 0 ? p.scale / p.softcap : p.scale * kLog2E)),
        cap(static_cast<float>(p.softcap * kLog2E)),
        capped(p.softcap > 0) {}
  LONGSPAN_INLINE vf below(vf product, vf added, vf m) const {
    vf slope;
    return below(product, added, m, slope);
  }
  LONGSPAN_INLINE vf below(vf product, vf added, vf m, vf& slope) const {
    if (!capped) {
      slope = vbroadcast(1.0f);
      return vfma(product, vbroadcast(factor), added - m);
    }
    const vf t = vtanhOf(product * factor);
    slope = 1.0f - t * t;
    return vfma(t, vbroadcast(cap), added - m);
  }
};

// Calls f with the problem's score policy.
template <class F>
decltype(auto) dispatchScore(const ops::AttentionProblem& p, F&& f) {
  if (p.softcap > 0 || p.hasTerms()) return f(GeneralScore(p));
  return f(ScaledScore(p));
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
