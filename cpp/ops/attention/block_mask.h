// blockMaskEvaluate: which blocks of a matrix of scores a predicate fills, attention family.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

// Sizes of blocks, in queries and keys alike.
inline constexpr int64_t kMaskBlocks[] = {16, 32, 64, 128};

// What a block holds.
enum class MaskBlock : uint8_t { none, partial, full };

// A predicate of (batch entry, head, query i, key j) as steps of a stack machine over 32-bit
// integers that wrap: each pushes a value, or replaces the topmost ones by its result. Comparisons
// and logic give 1 or 0; division and remainder round down, by 0 they give 0.
enum class MaskStep : int32_t {
  constant,  // the step's operand
  query,
  key,
  batch,
  head,
  add,
  subtract,
  multiply,
  divide,
  remainder,
  minimum,
  maximum,
  absolute,
  less,
  lessEqual,
  equal,
  both,    // logical and
  either,  // logical or
  negate,  // logical not
  count,
};
inline constexpr int kMaskDepth = 16;  // of the stack

struct BlockMaskEvaluate {
  static constexpr const char* name = "blockMaskEvaluate";
  TensorView program;  // i32[L, 2]: MaskStep and its operand
  // i32[P, 4], optional: batch entry, head, row and column of blocks whose elements are asked for.
  TensorView blocks;
  int64_t queries = 0, keys = 0, block = 0, batch = 1, heads = 1;
  TensorView states;  // without `blocks`: MaskBlock as u8[batch, heads, rows, columns]
  TensorView bits;    // with `blocks`: u8[P, block, block / 8]; bit c % 8 of byte c / 8 is column c

  template <class V>
  void fields(V& v) {
    v.input("program", program);
    v.optional("blocks", blocks);
    v.integer("queries", queries);
    v.integer("keys", keys);
    v.integer("block", block);
    v.integer("batch", batch);
    v.integer("heads", heads);
    v.output("states", states);
    v.output("bits", bits);
  }
  Status validate();
  int64_t rows() const { return (queries + block - 1) / block; }
  int64_t columns() const { return (keys + block - 1) / block; }
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::BlockMaskEvaluate, blockMaskEvaluate)
}
