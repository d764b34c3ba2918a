// blockMaskEvaluate: which blocks of a matrix of scores a predicate fills, attention family.
#pragma once

#include "cpp/core/host_device.h"
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

// Values that a step replaces by its own.
LONGSPAN_HOST_DEVICE int maskOperands(MaskStep step) {
  if (step <= MaskStep::head) return 0;
  return step == MaskStep::absolute || step == MaskStep::negate ? 1 : 2;
}

// Whether every step is known and finds its operands; then one value remains. steps: [count, 2].
LONGSPAN_HOST_DEVICE bool isSoundMask(const int32_t* steps, int64_t count) {
  int depth = 0;
  for (int64_t s = 0; s < count; ++s) {
    const int32_t code = steps[2 * s];
    if (code < 0 || code >= static_cast<int32_t>(MaskStep::count)) return false;
    const int taken = maskOperands(static_cast<MaskStep>(code));
    if (depth < taken) return false;
    depth += 1 - taken;
    if (depth > kMaskDepth) return false;
  }
  return depth == 1;
}

// What a step with operands makes of them.
LONGSPAN_HOST_DEVICE int32_t maskValue(MaskStep step, int32_t x, int32_t y) {
  const auto wrapped = [](uint32_t value) { return static_cast<int32_t>(value); };
  const auto a = static_cast<uint32_t>(x), b = static_cast<uint32_t>(y);
  const auto quotient = [&] {
    if (y == 0) return 0;
    if (y == -1) return wrapped(0u - a);  // the smallest number has no positive one
    return x / y - ((x % y != 0) & ((x < 0) != (y < 0)));
  };
  switch (step) {
    case MaskStep::add:
      return wrapped(a + b);
    case MaskStep::subtract:
      return wrapped(a - b);
    case MaskStep::multiply:
      return wrapped(a * b);
    case MaskStep::divide:
      return quotient();
    case MaskStep::remainder:
      return y == 0 ? 0 : wrapped(a - static_cast<uint32_t>(quotient()) * b);
    case MaskStep::minimum:
      return x < y ? x : y;
    case MaskStep::maximum:
      return x < y ? y : x;
    case MaskStep::absolute:
      return x < 0 ? wrapped(0u - a) : x;
    case MaskStep::less:
      return x < y;
    case MaskStep::lessEqual:
      return x <= y;
    case MaskStep::equal:
      return x == y;
    case MaskStep::both:
      return (x != 0) & (y != 0);
    case MaskStep::either:
      return (x | y) != 0;
    case MaskStep::negate:
      return x == 0;
    default:
      return 0;
  }
}

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
