#include "cuda/emulator/tests/toolkit.h"

#if defined(LONGSPAN_TOOLKIT)
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

namespace toolkit {
namespace {
template <class To, class From>
To bits(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  std::memcpy(static_cast<void*>(&y), &x, sizeof y);
  return y;
}
}  // namespace

float fromHalf(uint16_t x) { return __half2float(bits<__half>(x)); }
float fromBfloat16(uint16_t x) { return __bfloat162float(bits<__nv_bfloat16>(x)); }
uint16_t toHalf(float x) { return bits<uint16_t>(__float2half_rn(x)); }
uint16_t toBfloat16(float x) { return bits<uint16_t>(__float2bfloat16_rn(x)); }
}  // namespace toolkit
#endif
