// layerNorm and rmsNorm over the last axis, with an optional residual: s = x + residual, y =
// norm(s).
//
//   layerNorm  y = (s - mean) * scale * weight + bias, scale = 1 / sqrt(var + eps), var over n;
//              unbiased: scale = 1 / (sqrt(var over n - 1) + eps)
//   rmsNorm    y = s * scale * weight, scale = 1 / sqrt(mean of s^2 + eps)
//
// x may be f32, f16, bf16 or f64; weight and bias any floating dtype. s is rounded to x's dtype
// before it is normalised, so that backward, which starts from s, sees the same numbers. Statistics
// are f32 (f64 for f64), one per row.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct LayerNorm {
  static constexpr const char* name = "layerNorm";
  TensorView x, residual, weight, bias;
  TensorView y, sum, mean, scale;  // sum only with a residual
  double eps = 1e-5;
  bool unbiased = false;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.optional("residual", residual);
    v.optional("weight", weight);
    v.optional("bias", bias);
    v.number("eps", eps);
    v.flag("unbiased", unbiased);
    v.output("y", y);
    v.output("sum", sum);
    v.output("mean", mean);
    v.output("scale", scale);
  }
  Status validate();
  size_t workspace(int threads) const;
};

struct LayerNormBackward {
  static constexpr const char* name = "layerNormBackward";
  TensorView gradY, gradSum, s, weight, mean, scale;
  TensorView gradS, gradWeight, gradBias;
  double eps = 1e-5;
  bool unbiased = false, wantS = true, wantWeight = true, wantBias = true;

  template <class V>
  void fields(V& v) {
    v.input("gradY", gradY);
    v.optional("gradSum", gradSum);
    v.input("s", s);
    v.optional("weight", weight);
    v.input("mean", mean);
    v.input("scale", scale);
    v.number("eps", eps);
    v.flag("unbiased", unbiased);
    v.flag("wantS", wantS);
    v.flag("wantWeight", wantWeight);
    v.flag("wantBias", wantBias);
    v.output("gradS", gradS);
    v.output("gradWeight", gradWeight);
    v.output("gradBias", gradBias);
  }
  Status validate();
  size_t workspace(int threads) const;
};

struct RmsNorm {
  static constexpr const char* name = "rmsNorm";
  TensorView x, residual, weight;
  TensorView y, sum, scale;
  double eps = 1e-6;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.optional("residual", residual);
    v.optional("weight", weight);
    v.number("eps", eps);
    v.output("y", y);
    v.output("sum", sum);
    v.output("scale", scale);
  }
  Status validate();
  size_t workspace(int threads) const;
};

struct RmsNormBackward {
  static constexpr const char* name = "rmsNormBackward";
  TensorView gradY, gradSum, s, weight, scale;
  TensorView gradS, gradWeight;
  bool wantS = true, wantWeight = true;

  template <class V>
  void fields(V& v) {
    v.input("gradY", gradY);
    v.optional("gradSum", gradSum);
    v.input("s", s);
    v.optional("weight", weight);
    v.input("scale", scale);
    v.flag("wantS", wantS);
    v.flag("wantWeight", wantWeight);
    v.output("gradS", gradS);
    v.output("gradWeight", gradWeight);
  }
  Status validate();
  size_t workspace(int threads) const;
};

// Rows whose weight gradients are summed together before the blocks are: about 64 blocks, so that
// the order of summation depends on the shape alone.
inline int64_t normRowsPerBlock(int64_t rows) { return rows < 1024 ? 16 : (rows + 63) / 64; }

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::LayerNorm, layerNorm)
LONGSPAN_CPU_KERNEL(ops::LayerNormBackward, layerNormBackward)
LONGSPAN_CPU_KERNEL(ops::RmsNorm, rmsNorm)
LONGSPAN_CPU_KERNEL(ops::RmsNormBackward, rmsNormBackward)
}  // namespace longspan::cpu
