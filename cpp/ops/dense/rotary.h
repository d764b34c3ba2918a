// rotary: pairs of the first `dim` channels of x [.., D] turned by position * frequency. Pair i is
// the channels (2 i, 2 i + 1) when interleaved, else (i, i + dim / 2); its frequency is base^(-2 i
// / dim), or frequencies[i]. The position of element n of the sequence axis is positions[n] (or
// positions[b, n], b on axis 0), or n, plus `offset`. `inverse` turns back: the gradient.
#pragma once

#include "cpp/cpu/level.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

// How pairs of channels turn from one position to the next.
struct RotaryTurns {
  TensorView frequencies;  // f32 or f64[dim / 2], or absent
  int64_t dim = 0;
  double base = 10000;
  bool interleaved = false;

  Status check(int64_t channels) const;
};

struct Rotary : RotaryTurns {
  static constexpr const char* name = "rotary";
  TensorView x, positions, offset, y;  // .., i32[N] or [B, N], i32[1]
  int64_t axis = -2;
  bool inverse = false;

  template <class V>
  void fields(V& v) {
    v.input("x", x);
    v.optional("positions", positions);
    v.optional("offset", offset);
    v.optional("frequencies", frequencies);
    v.integer("axis", axis);
    v.integer("dim", dim);
    v.number("base", base);
    v.flag("interleaved", interleaved);
    v.flag("inverse", inverse);
    v.output("y", y);
  }
  Status validate();
  size_t workspace(int threads) const;
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Rotary, rotary)
}
