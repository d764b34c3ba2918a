// 16-bit floats against the toolkit's own host functions, where a toolkit is installed
// (scripts/emulator-tests.mjs then defines LONGSPAN_TOOLKIT and adds its headers).
#include "cuda/emulator/tests/harness.h"

#if defined(LONGSPAN_TOOLKIT)
#include "cuda/emulator/tests/toolkit.h"

namespace longspan::cuda::test {
namespace {

uint32_t bitsOf(float x) { return bitCast<uint32_t>(x); }

void expectSame(uint32_t ours, uint32_t theirs, uint32_t of) {
  if (ours == theirs) return;
  failCase("of " + std::to_string(of) + ": " + std::to_string(ours) + " here, " +
           std::to_string(theirs) + " in the toolkit");
}

bool isNan(float x) { return x != x; }

LONGSPAN_CASE("conversions", "all 65536 values of f16 and bf16 widen as in the toolkit") {
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float f = toFloat(f16{bits}), b = toFloat(bf16{bits});
    if (!isNan(f)) expectSame(bitsOf(f), bitsOf(toolkit::fromHalf(bits)), i);
    expectSame(isNan(f), isNan(toolkit::fromHalf(bits)), i);
    if (!isNan(b)) expectSame(bitsOf(b), bitsOf(toolkit::fromBfloat16(bits)), i);
    expectSame(isNan(b), isNan(toolkit::fromBfloat16(bits)), i);
  }
}

LONGSPAN_CASE("conversions", "floats narrow as in the toolkit, ties and subnormals included") {
  // All values of the upper 16 bits, with lower halves around the ties of both formats.
  for (uint32_t high = 0; high < 65536; ++high) {
    for (const uint32_t low : {0x0000u, 0x0001u, 0x0fffu, 0x1000u, 0x1001u, 0x2000u, 0x3000u,
                               0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      const uint32_t bits = high << 16 | low;
      const float x = bitCast<float>(bits);
      if (isNan(x)) continue;
      expectSame(fromFloat<f16>(x).bits, toolkit::toHalf(x), bits);
      expectSame(fromFloat<bf16>(x).bits, toolkit::toBfloat16(x), bits);
    }
  }
}

}  // namespace
}  // namespace longspan::cuda::test
#endif
