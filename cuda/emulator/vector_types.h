// CUDA's vector types and dim3, in the global namespace as CUDA has them.
#pragma once

#include <cstdint>

#define LONGSPAN_VECTOR(scalar, name, bytes)                                                     \
  struct name##1 { scalar x; };                                                                  \
  struct alignas(2 * bytes) name##2 { scalar x, y; };                                            \
  struct name##3 { scalar x, y, z; };                                                            \
  struct alignas(4 * bytes > 16 ? 16 : 4 * bytes) name##4 { scalar x, y, z, w; };                \
  [[gnu::always_inline]] inline constexpr name##2 make_##name##2(scalar x, scalar y) {           \
    return {x, y};                                                                               \
  }                                                                                              \
  [[gnu::always_inline]] inline constexpr name##3 make_##name##3(scalar x, scalar y, scalar z) { \
    return {x, y, z};                                                                            \
  }                                                                                              \
  [[gnu::always_inline]] inline constexpr name##4 make_##name##4(scalar x, scalar y, scalar z,   \
                                                                 scalar w) {                     \
    return {x, y, z, w};                                                                         \
  }

LONGSPAN_VECTOR(int8_t, char, 1)
LONGSPAN_VECTOR(uint8_t, uchar, 1)
LONGSPAN_VECTOR(int16_t, short, 2)
LONGSPAN_VECTOR(uint16_t, ushort, 2)
LONGSPAN_VECTOR(int32_t, int, 4)
LONGSPAN_VECTOR(uint32_t, uint, 4)
LONGSPAN_VECTOR(float, float, 4)
LONGSPAN_VECTOR(double, double, 8)
LONGSPAN_VECTOR(long long, longlong, 8)
LONGSPAN_VECTOR(unsigned long long, ulonglong, 8)
#undef LONGSPAN_VECTOR

struct dim3 {
  uint32_t x = 1, y = 1, z = 1;
  constexpr dim3(uint32_t x_ = 1, uint32_t y_ = 1, uint32_t z_ = 1) : x(x_), y(y_), z(z_) {}
};
