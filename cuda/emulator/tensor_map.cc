#include "cuda/emulator/tensor_map.h"

#include <cstring>

#include "cuda/tensor_map.h"

namespace longspan {
namespace emulator {
namespace {

constexpr uint64_t kMapMagic = 0x6c6f6e677370616e;

// 128 bytes, as the driver's: sizes are packed into what they can be at most.
struct Encoded {
  uint64_t magic;
  const uint8_t* base;
  uint8_t type, rank;
  uint16_t swizzleBytes;
  uint32_t extent[5];
  uint64_t stride[4];
  uint16_t box[5];
};
static_assert(sizeof(Encoded) <= sizeof(CUtensorMap));

bool valid(const cuda::TensorMapLayout& l) {
  if (l.rank < 1 || l.rank > 5 || reinterpret_cast<uintptr_t>(l.base) % 16 != 0) return false;
  const size_t rowBytes = l.box[0] * sizeOf(l.type);
  if (rowBytes % 16 != 0) return false;
  if (l.swizzleBytes != 0 && l.swizzleBytes != 32 && l.swizzleBytes != 64 && l.swizzleBytes != 128)
    return false;
  if (l.swizzleBytes != 0 && rowBytes > static_cast<size_t>(l.swizzleBytes)) return false;
  for (int i = 0; i < l.rank; ++i) {
    if (l.box[i] == 0 || l.box[i] > 256 || l.extent[i] == 0 || l.extent[i] > UINT32_MAX)
      return false;
    if (i > 0 && (l.strideBytes[i] % 16 != 0 || l.strideBytes[i] >= uint64_t{1} << 40))
      return false;
  }
  return true;
}

}  // namespace

bool decode(const CUtensorMap& map, TileMap* out) {
  Encoded e;
  std::memcpy(&e, &map, sizeof e);
  if (e.magic != kMapMagic) return false;
  *out = {};
  out->base = e.base;
  out->type = static_cast<DType>(e.type);
  out->rank = e.rank;
  out->swizzleBytes = e.swizzleBytes;
  for (int i = 0; i < e.rank; ++i) {
    out->extent[i] = e.extent[i];
    out->stride[i] = i == 0 ? sizeOf(out->type) : e.stride[i - 1];
    out->box[i] = e.box[i];
  }
  return true;
}

size_t TileMap::boxBytes() const {
  size_t bytes = elementBytes();
  for (const uint32_t n : box) bytes *= n;
  return bytes;
}

const uint8_t* TileMap::rowOf(const int* at, size_t row) const {
  const uint8_t* address = base;
  for (int axis = 1; axis < rank; ++axis) {
    const int64_t x = at[axis] + static_cast<int64_t>(row % box[axis]);
    row /= box[axis];
    if (x < 0 || x >= static_cast<int64_t>(extent[axis])) return nullptr;
    address += x * static_cast<int64_t>(stride[axis]);
  }
  return address;
}

}  // namespace emulator

cudaError_t cuda::encodeTensorMap(TensorMap* map, const TensorMapLayout& layout) {
  if (!emulator::valid(layout)) return cudaErrorInvalidValue;
  emulator::Encoded e{};
  e.magic = emulator::kMapMagic;
  e.base = static_cast<const uint8_t*>(layout.base);
  e.type = static_cast<uint8_t>(layout.type);
  e.rank = static_cast<uint8_t>(layout.rank);
  e.swizzleBytes = static_cast<uint16_t>(layout.swizzleBytes);
  for (int i = 0; i < layout.rank; ++i) {
    e.extent[i] = static_cast<uint32_t>(layout.extent[i]);
    e.box[i] = static_cast<uint16_t>(layout.box[i]);
    if (i > 0) e.stride[i - 1] = layout.strideBytes[i];
  }
  *map = {};
  std::memcpy(map, &e, sizeof e);
  return cudaSuccess;
}

}  // namespace longspan
