// The key/value cache of decoding, attention family: kvCacheAppend, kvCacheTruncate,
// kvCacheReorder.
//
// A cache is keys [B, H, capacity, D], values [B, H, capacity, Dv] and lengths i32[B], all written
// in place on the device; rows at and beyond a length hold anything.
#pragma once

#include "cpp/ops/operator.h"

namespace longspan::ops {

// Writes T new tokens behind the cached ones and advances the lengths.
struct KvCacheAppend {
  static constexpr const char* name = "kvCacheAppend";
  TensorView keys, values, lengths;
  TensorView k, v;    // [B, H, T, D], [B, H, T, Dv]
  TensorView counts;  // i32[B]: only so many of the T tokens are taken

  template <class V>
  void fields(V& v_) {
    v_.inout("keys", keys);
    v_.inout("values", values);
    v_.inout("lengths", lengths);
    v_.input("k", k);
    v_.input("v", v);
    v_.optional("counts", counts);
  }
  Status validate();
};

// lengths = min(lengths, limits)
struct KvCacheTruncate {
  static constexpr const char* name = "kvCacheTruncate";
  TensorView lengths, limits;

  template <class V>
  void fields(V& v_) {
    v_.inout("lengths", lengths);
    v_.input("limits", limits);
  }
  Status validate();
};

// Batch entry i of the new cache is entry indices[i] of the old one; only valid rows are copied.
struct KvCacheReorder {
  static constexpr const char* name = "kvCacheReorder";
  TensorView keys, values, lengths, indices;
  TensorView newKeys, newValues, newLengths;

  template <class V>
  void fields(V& v_) {
    v_.input("keys", keys);
    v_.input("values", values);
    v_.input("lengths", lengths);
    v_.input("indices", indices);
    v_.output("newKeys", newKeys);
    v_.output("newValues", newValues);
    v_.output("newLengths", newLengths);
  }
  Status validate();
};

}  // namespace longspan::ops

namespace longspan::cpu {
Status kvCacheAppend(const ops::KvCacheAppend& p, Context& context);
Status kvCacheTruncate(const ops::KvCacheTruncate& p, Context& context);
Status kvCacheReorder(const ops::KvCacheReorder& p, Context& context);
}  // namespace longspan::cpu
