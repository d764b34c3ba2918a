// What the operators of the key/value cache share on the CPU.
#pragma once

#include <cstring>
#include <string>

#include "cpp/core/status.h"
#include "cpp/core/tensor_view.h"

namespace longspan::cpu {

inline int32_t& elementAt(const TensorView& t, int64_t i) {
  return t.data<int32_t>()[i * t.stride[0]];
}

// `rows` token rows of head h: from entry b of `from` to entry `toB` of `to`.
inline void copyRows(const TensorView& from, int64_t b, int64_t row, const TensorView& to,
                     int64_t toB, int64_t toRow, int64_t h, int64_t rows) {
  const size_t size = sizeOf(from.dtype);
  const auto address = [&](const TensorView& t, int64_t entry, int64_t r) {
    return t.base + (t.offset + entry * t.stride[0] + h * t.stride[1] + r * t.stride[2]) *
                        static_cast<int64_t>(size);
  };
  const int64_t dim = from.shape[3], step = from.stride[3], toStep = to.stride[3];
  for (int64_t r = 0; r < rows; ++r) {
    const std::byte* source = address(from, b, row + r);
    std::byte* target = address(to, toB, toRow + r);
    if (step == 1 && toStep == 1) {
      std::memcpy(target, source, static_cast<size_t>(dim) * size);
      continue;
    }
    for (int64_t d = 0; d < dim; ++d) {
      std::memcpy(target + d * toStep * static_cast<int64_t>(size),
                  source + d * step * static_cast<int64_t>(size), size);
    }
  }
}

inline Status outside(const char* field, int64_t value, int64_t entry, const std::string& remedy) {
  return Status(Code::failed, field,
                std::to_string(value) + " in batch entry " + std::to_string(entry), remedy);
}

}  // namespace longspan::cpu
