// crossEntropy: the loss of class targets, straight from logits x [..., V]. With q the wanted
// distribution of a row and lse = log sum exp x,
//
//   loss = sum_v q_v (lse - x_v) + zLoss * lse^2
//
// q puts 1 - smoothing on the target and the rest on all classes (target included), or on the
// others, without the target and the ignored class; then sum q log q is added, which makes it a
// divergence. Rows whose target is ignoreIndex count nothing. Losses and lse are f32 (f64 for f64).
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

enum class Reduction : int { mean, sum, none };
enum class SmoothingOver : int { all, others };

struct CrossEntropy {
  static constexpr const char* name = "crossEntropy";
  TensorView logits, targets;   // [..., V], i32[...]
  TensorView loss, lse, count;  // [] or [...], [...], []: rows that count
  double smoothing = 0, zLoss = 0;
  int64_t ignoreIndex = -100;
  SmoothingOver over = SmoothingOver::all;
  Reduction reduction = Reduction::mean;

  template <class V>
  void fields(V& v) {
    v.input("logits", logits);
    v.input("targets", targets);
    v.number("smoothing", smoothing);
    v.number("zLoss", zLoss);
    v.integer("ignoreIndex", ignoreIndex);
    v.choice("over", over, {"all", "others"});
    v.choice("reduction", reduction, {"mean", "sum", "none"});
    v.output("loss", loss);
    v.output("lse", lse);
    v.output("count", count);
  }
  Status validate();
  size_t workspace(int threads) const;  // a loss per row
};

struct CrossEntropyBackward {
  static constexpr const char* name = "crossEntropyBackward";
  TensorView gradLoss, logits, targets, lse, count;
  TensorView gradLogits;
  double smoothing = 0, zLoss = 0;
  int64_t ignoreIndex = -100;
  SmoothingOver over = SmoothingOver::all;
  Reduction reduction = Reduction::mean;

  template <class V>
  void fields(V& v) {
    v.input("gradLoss", gradLoss);
    v.input("logits", logits);
    v.input("targets", targets);
    v.input("lse", lse);
    v.input("count", count);
    v.number("smoothing", smoothing);
    v.number("zLoss", zLoss);
    v.integer("ignoreIndex", ignoreIndex);
    v.choice("over", over, {"all", "others"});
    v.choice("reduction", reduction, {"mean", "sum", "none"});
    v.output("gradLogits", gradLogits);
  }
  Status validate();
};

// q_v = everywhere, plus onTarget at the target, plus onIgnored at the ignored class, if it is one.
struct WantedDistribution {
  double everywhere, onTarget, onIgnored, entropy;
};
WantedDistribution wantedDistribution(double smoothing, SmoothingOver over, int64_t ignoreIndex,
                                      int64_t classes);

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::CrossEntropy, crossEntropy)
LONGSPAN_CPU_KERNEL(ops::CrossEntropyBackward, crossEntropyBackward)
}  // namespace longspan::cpu
