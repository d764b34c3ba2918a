// The toolkit's conversions behind plain types: its headers and the emulator's do not mix.
#pragma once

#include <cstdint>

namespace toolkit {
float fromHalf(uint16_t bits);
float fromBfloat16(uint16_t bits);
uint16_t toHalf(float x);
uint16_t toBfloat16(float x);
}  // namespace toolkit
