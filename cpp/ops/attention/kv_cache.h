// The key/value cache of decoding, attention family: kvCacheAppend, kvCacheTruncate,
// kvCacheReorder.
//
// A cache is keys [B, H, capacity, D], values [B, H, capacity, Dv] and lengths i32[B], all written
// in place on the device; rows at and beyond a length hold anything. A paged one has keys [pages,
// H, page size, D], values likewise, and a table of the pages of each entry (problem.h). So a
// head's rows of a page are one run of memory, and a contiguous cache is a paged one whose pages
// are as large as its capacity.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/dense/rotary.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

// Writes T new tokens behind the cached ones and advances the lengths. With `rotates` keys are
// turned by their positions on the way, and so are queries, if given, into an output.
struct KvCacheAppend {
  static constexpr const char* name = "kvCacheAppend";
  TensorView keys, values, lengths;
  TensorView k, v;       // [B, H, T, D], [B, H, T, Dv]
  TensorView counts;     // i32[B]: only so many of the T tokens are taken
  TensorView pageTable;  // i32[B, pages of an entry]
  bool rotates = false;
  TensorView q, rotated;  // [B, Hq, T, D]
  RotaryTurns turns;

  int64_t batch() const { return lengths.shape[0]; }
  int64_t capacity() const {
    return keys.shape[2] * (pageTable.defined() ? pageTable.shape[1] : 1);
  }

  template <class V>
  void fields(V& v_) {
    v_.inout("keys", keys);
    v_.inout("values", values);
    v_.inout("lengths", lengths);
    v_.input("k", k);
    v_.input("v", v);
    v_.optional("counts", counts);
    v_.optional("pageTable", pageTable);
    v_.group("rotary", rotates, [&] {
      v_.optional("q", q);
      v_.optional("frequencies", turns.frequencies);
      v_.integer("dim", turns.dim);
      v_.number("base", turns.base);
      v_.flag("interleaved", turns.interleaved);
    });
    v_.output("rotated", rotated);
  }
  Status validate();
  size_t workspace(int threads) const;
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
LONGSPAN_CPU_KERNEL(ops::KvCacheAppend, kvCacheAppend)
Status kvCacheTruncate(const ops::KvCacheTruncate& p, Context& context);
Status kvCacheReorder(const ops::KvCacheReorder& p, Context& context);
}  // namespace longspan::cpu
