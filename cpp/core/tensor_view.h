// A typed, strided window on a buffer. Plain data: copied into tasks, passed to kernels by value.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "cpp/core/dtype.h"

namespace longspan {

class Buffer;

inline constexpr int kMaxRank = 8;

struct TensorView {
  Buffer* buffer = nullptr;
  std::byte* base = nullptr;  // set when the task runs; null while only the shape is known
  int64_t offset = 0;         // elements
  DType dtype = DType::f32;
  int8_t rank = -1;  // -1: absent
  // Not cleared, nothing beyond the rank is ever read: a call of attention has 21 views, most
  // absent.
  std::array<int64_t, kMaxRank> shape;
  std::array<int64_t, kMaxRank> stride;  // elements, may be 0 (broadcast) or negative

  bool defined() const { return rank >= 0; }
  int64_t dim(int axis) const { return shape[axis < 0 ? axis + rank : axis]; }
  int64_t strideOf(int axis) const { return stride[axis < 0 ? axis + rank : axis]; }

  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }
  int64_t bytes() const { return numel() * static_cast<int64_t>(sizeOf(dtype)); }

  bool contiguous() const {
    int64_t expected = 1;
    for (int i = rank - 1; i >= 0; --i) {
      if (shape[i] != 1 && stride[i] != expected) return false;
      expected *= shape[i];
    }
    return true;
  }

  bool sameShape(const TensorView& other) const {
    if (rank != other.rank) return false;
    for (int i = 0; i < rank; ++i) {
      if (shape[i] != other.shape[i]) return false;
    }
    return true;
  }

  // First element. Valid while the operator's task runs.
  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(base) + offset;
  }

  // Fresh row-major view without storage: what validate() gives an output.
  static TensorView ofShape(DType dtype, const int64_t* dims, int rank) {
    TensorView v;
    v.dtype = dtype;
    v.rank = static_cast<int8_t>(rank);
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; --i) {
      v.shape[i] = dims[i];
      v.stride[i] = step;
      step *= dims[i];
    }
    return v;
  }
  static TensorView ofShape(DType dtype, std::initializer_list<int64_t> dims) {
    return ofShape(dtype, dims.begin(), static_cast<int>(dims.size()));
  }
  static TensorView like(const TensorView& other) {
    return ofShape(other.dtype, other.shape.data(), other.rank);
  }
  static TensorView like(const TensorView& other, DType dtype) {
    return ofShape(dtype, other.shape.data(), other.rank);
  }
};

// "f32[2, 3]", for error messages.
std::string describe(const TensorView& view);

}  // namespace longspan
