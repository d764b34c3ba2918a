// Random tensors. advanceGenerator reserves Philox blocks: it copies the generator's state to
// `used` and moves the generator on. The others are pure functions of such a copy, so that a
// failing draw leaves the generator intact and a backward pass can draw the same numbers again.
//
// Element i takes word i % 4 of block i / 4. Numbers are f32 whatever the dtype, then converted.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

struct AdvanceGenerator {
  static constexpr const char* name = "advanceGenerator";
  TensorView state, used;  // i32[4]
  int64_t blocks = 0;

  template <class V>
  void fields(V& v) {
    v.inout("state", state);
    v.integer("blocks", blocks);
    v.output("used", used);
  }
  Status validate();
};

// low + (high - low) * u, u in [0, 1) with 24 bits.
struct Uniform {
  static constexpr const char* name = "uniform";
  TensorView state, y;
  std::vector<int64_t> shape;
  int64_t dtype = 0;
  double low = 0, high = 1;

  template <class V>
  void fields(V& v) {
    v.input("state", state);
    v.integers("shape", shape);
    v.integer("dtype", dtype);
    v.number("low", low);
    v.number("high", high);
    v.output("y", y);
  }
  Status validate();
};

// mean + std * z. Box and Muller's transform of words (2 j, 2 j + 1) gives z of 2 j and 2 j + 1.
struct Normal {
  static constexpr const char* name = "normal";
  TensorView state, y;
  std::vector<int64_t> shape;
  int64_t dtype = 0;
  double mean = 0, std = 1;

  template <class V>
  void fields(V& v) {
    v.input("state", state);
    v.integers("shape", shape);
    v.integer("dtype", dtype);
    v.number("mean", mean);
    v.number("std", std);
    v.output("y", y);
  }
  Status validate();
};

// 1 with probability p, else 0; any dtype.
struct Bernoulli {
  static constexpr const char* name = "bernoulli";
  TensorView state, y;
  std::vector<int64_t> shape;
  int64_t dtype = 0;
  double p = 0.5;

  template <class V>
  void fields(V& v) {
    v.input("state", state);
    v.integers("shape", shape);
    v.integer("dtype", dtype);
    v.number("p", p);
    v.output("y", y);
  }
  Status validate();
};

// i32 in [low, high): low + floor(word * (high - low) / 2^32).
struct RandInt {
  static constexpr const char* name = "randint";
  TensorView state, y;
  std::vector<int64_t> shape;
  int64_t low = 0, high = 1;

  template <class V>
  void fields(V& v) {
    v.input("state", state);
    v.integers("shape", shape);
    v.integer("low", low);
    v.integer("high", high);
    v.output("y", y);
  }
  Status validate();
};

// 0 .. n - 1 in the order of (word i, i).
struct Permutation {
  static constexpr const char* name = "permutation";
  TensorView state, y;
  int64_t n = 0;

  template <class V>
  void fields(V& v) {
    v.input("state", state);
    v.integer("n", n);
    v.output("y", y);
  }
  Status validate();
  size_t workspace(int) const { return static_cast<size_t>(n) * sizeof(uint64_t); }
};

// Threshold of keeping: an event of probability p happens when word >> 8 is below it.
inline uint32_t probabilityThreshold(double p) { return static_cast<uint32_t>(p * 0x1p24 + 0.5); }

}  // namespace longspan::ops

namespace longspan::cpu {
Status advanceGenerator(const ops::AdvanceGenerator& p, Context& context);
LONGSPAN_CPU_KERNEL(ops::Uniform, uniform)
LONGSPAN_CPU_KERNEL(ops::Normal, normal)
LONGSPAN_CPU_KERNEL(ops::Bernoulli, bernoulli)
LONGSPAN_CPU_KERNEL(ops::RandInt, randint)
Status permutation(const ops::Permutation& p, Context& context);
}  // namespace longspan::cpu
