// The elementwise functions that matmul applies to its result.
#pragma once

#include "cpp/ops/field.h"

namespace longspan::ops {

enum class Activation : int { none, relu, gelu, geluTanh, silu, reluSquared };

inline Names activationNames() {
  static constexpr const char* names[] = {"none",     "relu", "gelu",
                                          "geluTanh", "silu", "reluSquared"};
  return names;
}

}  // namespace longspan::ops
