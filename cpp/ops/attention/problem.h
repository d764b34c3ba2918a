// What every exact-attention operator takes, and the shape rules they share.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

inline constexpr int64_t kMaxHeadDim = 256;

// Axes: q [B, Hq, N, D], k [B, Hkv, M, D], v [B, Hkv, M, Dv]; with tokenMajor the second and third
// axis change places, in outputs and gradients too. Query head h reads key head h / (Hq / Hkv).
struct AttentionProblem {
  TensorView q, k, v;
  TensorView keyLengths, queryLengths;  // i32[B]: rows at and beyond them do not exist
  double scale = 0;
  double softcap = 0;   // 0: none; else scores become softcap * tanh(scores / softcap)
  bool causal = false;  // key j is seen by query i when j <= i + off, off = keyLength - queryLength
  int64_t windowLeft = -1;  // keys from i + off - windowLeft on; -1: unbounded
  int64_t windowRight = -1;
  bool tokenMajor = false;

  // Offers the fields in the order of the declarations in lib/attention.
  template <class V>
  void tensors(V& v_) {
    v_.input("q", q);
    v_.input("k", k);
    v_.input("v", v);
  }
  template <class V>
  void options(V& v_) {
    v_.optional("keyLengths", keyLengths);
    v_.optional("queryLengths", queryLengths);
    v_.number("scale", scale);
    v_.number("softcap", softcap);
    v_.flag("causal", causal);
    v_.integer("windowLeft", windowLeft);
    v_.integer("windowRight", windowRight);
    v_.flag("tokenMajor", tokenMajor);
  }

  Status check() const;

  // A view with the axes [B, H, tokens, dim], whatever the layout.
  TensorView headMajor(const TensorView& t) const;
  // A fresh [B, heads, tokens, dim] tensor in this call's layout.
  TensorView fresh(DType dtype, int64_t heads, int64_t tokens, int64_t dim) const;

  int headAxis() const { return tokenMajor ? 2 : 1; }
  int tokenAxis() const { return tokenMajor ? 1 : 2; }
  int64_t batch() const { return q.shape[0]; }
  int64_t queryHeads() const { return q.shape[headAxis()]; }
  int64_t keyHeads() const { return k.shape[headAxis()]; }
  int64_t queries() const { return q.shape[tokenAxis()]; }
  int64_t keys() const { return k.shape[tokenAxis()]; }
  int64_t dim() const { return q.shape[3]; }
  int64_t valueDim() const { return v.shape[3]; }
  // Log-sum-exp and row sums are f32, f64 for f64 inputs.
  DType statistics() const { return q.dtype == DType::f64 ? DType::f64 : DType::f32; }
};

}  // namespace longspan::ops
