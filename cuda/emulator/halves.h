// Values of all 16-bit floats by their bits, for the inner loops of mma and wgmma.
#pragma once

#include "cpp/core/half.h"

namespace longspan::emulator {

inline const float* halfValues(bool isBf16) {
  struct Table {
    float f16s[65536], bf16s[65536];
    Table() {
      for (uint32_t i = 0; i < 65536; ++i) {
        f16s[i] = toFloat(f16{static_cast<uint16_t>(i)});
        bf16s[i] = toFloat(bf16{static_cast<uint16_t>(i)});
      }
    }
  };
  static const Table& table = *new Table;
  return isBf16 ? table.bf16s : table.f16s;
}

}  // namespace longspan::emulator
