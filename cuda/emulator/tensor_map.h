// The emulator's own contents of a CUtensorMap, and where its elements lie.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpp/core/dtype.h"

struct CUtensorMap;

namespace longspan::emulator {

struct TileMap {
  const uint8_t* base = nullptr;
  DType type = DType::u8;
  uint8_t rank = 1;
  int swizzleBytes = 0;
  uint64_t extent[5] = {1, 1, 1, 1, 1};
  uint64_t stride[5] = {};  // bytes
  uint32_t box[5] = {1, 1, 1, 1, 1};

  size_t elementBytes() const { return sizeOf(type); }
  size_t rowBytes() const { return box[0] * elementBytes(); }
  size_t boxBytes() const;
  // Global address of the first element of row `row` of the box at `at`, or null when outside.
  const uint8_t* rowOf(const int* at, size_t row) const;
};

// Null unless the map was made by encodeTensorMap.
bool decode(const CUtensorMap& map, TileMap* out);

// The permutation of 16-byte chunks within a swizzle span, on the absolute shared address.
inline uint32_t swizzled(uint32_t address, int swizzleBytes) {
  const uint32_t mask = swizzleBytes == 128  ? 7
                        : swizzleBytes == 64 ? 3
                        : swizzleBytes == 32 ? 1
                                             : 0;
  return address ^ (address >> 7 & mask) << 4;
}

}  // namespace longspan::emulator
