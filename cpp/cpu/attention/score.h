// What happens to a product q . k before the softmax. The score of an attention kernel is a policy:
//
//   vf below(vf product, vf m);            // plain: logit - m, both in base 2
//   void cap(vf (&products)[MR][NR]);      // others: first what is not linear in a product,
//   vf below(vf product, vf added, vf m);  // then this, with what terms.h adds,
//   vf slope(vf product, vf added);        // and d logit / d (scale * product), natural
//   static constexpr bool kPlain;          // nothing is added, the slope is always 1
//
// The factor is applied here, by an FMA with the subtraction, and not to Q beforehand: large logits
// then cancel before anything is rounded, and forward and backward see the same bits.
#pragma once

#include <limits>

#include "cpp/cpu/exponential.h"
#include "cpp/cpu/tile.h"
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

// Every option: scale * q . k, or softcap * tanh(scale * q . k / softcap), and what is added to it.
struct GeneralScore {
  static constexpr bool kPlain = false;
  float factor, inner = 0;  // behind the cap and before it
  bool capped = false;
  bool sloped = true;                                      // the cap's slope counts
  float resort = -std::numeric_limits<float>::infinity();  // added below it: without the product

  explicit GeneralScore(double scale) : factor(static_cast<float>(scale * kLog2E)) {}
  explicit GeneralScore(const ops::AttentionProblem& p) : GeneralScore(p.scale) {
    if (p.softcap == 0) return;
    capped = true;
    inner = static_cast<float>(p.scale / p.softcap);
    factor = static_cast<float>(p.softcap * kLog2E);
  }

  // The same where nothing is added to a tile.
  ScaledScore plain() const {
    ScaledScore score(1.0);
    score.factor = factor;
    return score;
  }

  // One copy of the function, in a loop: it is long, and a tile has many vectors.
  template <int MR, int NR>
  LONGSPAN_INLINE void cap(vf (&c)[MR][NR]) const {
    if (!capped) return;
    vf x[MR * NR];
#pragma GCC unroll 16
    for (int i = 0; i < MR * NR; ++i) x[i] = c[i / NR][i % NR];
#pragma GCC unroll 1
    for (int i = 0; i < MR * NR; ++i) x[i] = vtanhOf(x[i] * inner);
#pragma GCC unroll 16
    for (int i = 0; i < MR * NR; ++i) c[i / NR][i % NR] = x[i];
  }
  LONGSPAN_INLINE vf below(vf product, vf added, vf m) const {
    return vfma(product, vselect(added < resort, vf{}, vbroadcast(factor)), added - m);
  }
  LONGSPAN_INLINE vf slope(vf product, vf added) const {
    const vf one = vbroadcast(1.0f);
    return vselect(added < resort, vf{}, capped && sloped ? one - product * product : one);
  }
};

// Calls f with the problem's score policy.
template <class F>
decltype(auto) dispatchScore(const ops::AttentionProblem& p, F&& f) {
  if (p.softcap > 0 || p.hasTerms()) return f(GeneralScore(p));
  return f(ScaledScore(p));
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
