// Optimizer updates of many tensors in one call, and the norm of their gradients.
//
// Parameters are f32, f16, bf16 or f64; arithmetic and states are f32 (f64 for f64). `masters`
// holds one tensor in that type per parameter when 16-bit parameters keep a precise copy (a
// parameter that is already precise stands for itself), or nothing. Whatever changes between steps
// comes from device tensors of one element: the learning rate, the step count, which the call
// advances, a factor on the gradients, and `skip`, which makes the call do nothing when it is not
// 0.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

// Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019) when decoupled, AMSGrad (Reddi et
// al. 2018) when maxSquares is given.
struct AdamStep {
  static constexpr const char* name = "adamStep";
  TensorList params, grads, means, squares, maxSquares, masters;
  TensorView lr, step, gradScale, skip;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weightDecay = 0;
  bool decoupled = true;

  template <class V>
  void fields(V& v) {
    v.inouts("params", params);
    v.inputs("grads", grads);
    v.inouts("means", means);
    v.inouts("squares", squares);
    v.optionalInouts("maxSquares", maxSquares);
    v.optionalInouts("masters", masters);
    v.input("lr", lr);
    v.inout("step", step);
    v.optional("gradScale", gradScale);
    v.optional("skip", skip);
    v.number("beta1", beta1);
    v.number("beta2", beta2);
    v.number("eps", eps);
    v.number("weightDecay", weightDecay);
    v.flag("decoupled", decoupled);
  }
  Status validate();
};

// SGD with momentum: the buffer is the gradient at the first step, then momentum * buffer +
// (1 - dampening) * gradient.
struct SgdStep {
  static constexpr const char* name = "sgdStep";
  TensorList params, grads, buffers, masters;
  TensorView lr, step, gradScale, skip;
  double momentum = 0, dampening = 0, weightDecay = 0;
  bool nesterov = false;

  template <class V>
  void fields(V& v) {
    v.inouts("params", params);
    v.inputs("grads", grads);
    v.optionalInouts("buffers", buffers);
    v.optionalInouts("masters", masters);
    v.input("lr", lr);
    v.inout("step", step);
    v.optional("gradScale", gradScale);
    v.optional("skip", skip);
    v.number("momentum", momentum);
    v.number("dampening", dampening);
    v.number("weightDecay", weightDecay);
    v.flag("nesterov", nesterov);
  }
  Status validate();
};

// Norm over all elements of all tensors, times `scale`: Euclidean, or the largest magnitude. norm
// and nonFinite (1 when any element is infinite or NaN) are f32[1]; norm is f64 when a tensor is.
struct GradNorm {
  static constexpr const char* name = "gradNorm";
  TensorList tensors;
  TensorView scale, norm, nonFinite;
  bool largest = false;

  template <class V>
  void fields(V& v) {
    v.inputs("tensors", tensors);
    v.optional("scale", scale);
    v.flag("largest", largest);
    v.output("norm", norm);
    v.output("nonFinite", nonFinite);
  }
  Status validate();
  size_t workspace(int threads) const;  // two doubles per piece
};

// min(1, maxNorm / (norm + 1e-6)), times `scale`.
struct ClipCoefficient {
  static constexpr const char* name = "clipCoefficient";
  TensorView norm, scale, coefficient;
  double maxNorm = 1;

  template <class V>
  void fields(V& v) {
    v.input("norm", norm);
    v.optional("scale", scale);
    v.number("maxNorm", maxNorm);
    v.output("coefficient", coefficient);
  }
  Status validate();
};

// Every element times a factor from the device, in place.
struct ScaleTensors {
  static constexpr const char* name = "scaleTensors";
  TensorList tensors;
  TensorView factor;

  template <class V>
  void fields(V& v) {
    v.inouts("tensors", tensors);
    v.input("factor", factor);
  }
  Status validate();
};

// Every element moved into [-limit, limit], in place.
struct ClampTensors {
  static constexpr const char* name = "clampTensors";
  TensorList tensors;
  double limit = 1;

  template <class V>
  void fields(V& v) {
    v.inouts("tensors", tensors);
    v.number("limit", limit);
  }
  Status validate();
};

// Elements of one piece of work: pieces never straddle tensors.
inline constexpr int64_t kOptimizerPiece = 1 << 14;
inline int64_t optimizerPieces(const TensorList& tensors) {
  int64_t n = 0;
  for (const TensorView& t : tensors) n += (t.numel() + kOptimizerPiece - 1) / kOptimizerPiece;
  return n;
}

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::AdamStep, adamStep)
LONGSPAN_CPU_KERNEL(ops::SgdStep, sgdStep)
LONGSPAN_CPU_KERNEL(ops::GradNorm, gradNorm)
LONGSPAN_CPU_KERNEL(ops::ClipCoefficient, clipCoefficient)
LONGSPAN_CPU_KERNEL(ops::ScaleTensors, scaleTensors)
LONGSPAN_CPU_KERNEL(ops::ClampTensors, clampTensors)
}  // namespace longspan::cpu
