// The elementwise functions that matmul applies to its result.
#pragma once

#include <string>
#include <vector>

namespace longspan::ops {

enum class Activation : int { none, relu, gelu, geluTanh, silu, reluSquared };

inline std::vector<std::string> activationNames() {
  return {"none", "relu", "gelu", "geluTanh", "silu", "reluSquared"};
}

}  // namespace longspan::ops
