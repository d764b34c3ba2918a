// Token rows of a [B, H, tokens, dim] view of any dtype and stride as f32, in place where possible.
#pragma once

#include "cpp/core/tensor_view.h"
#include "cpp/cpu/tile.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

struct HeadRows {
  const float* data;
  int64_t stride;
};

constexpr int64_t roundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Scratch memory handed out in pieces of whole cache lines; counts alone when there is no memory.
struct Scratch {
  float* at = nullptr;
  int64_t used = 0;
  float* take(int64_t floats) {
    float* piece = at == nullptr ? nullptr : at + used;
    used += roundUp(floats, 16);
    return piece;
  }
};

// Copies `rows` rows of head (b, h), the i-th being row rowOf(i), to target: `width` floats a row
// with zeros beyond the head dimension, and zero rows up to `height`.
template <class RowOf>
inline void gatherRows(const TensorView& t, int64_t b, int64_t h, int64_t rows, RowOf&& rowOf,
                       float* target, int64_t width, int64_t height) {
  const int64_t dim = t.shape[3], step = t.stride[3];
  dispatchFloating(t.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (!std::is_same_v<T, double>) {
      const T* head = t.data<T>() + b * t.stride[0] + h * t.stride[1];
      for (int64_t i = 0; i < rows; ++i) {
        const T* source = head + rowOf(i) * t.stride[2];
        float* out = target + i * width;
        int64_t d = 0;
        if (step == 1) {
          for (; d + kLanes <= dim; d += kLanes) vstore(out + d, vload(source + d));
        }
        for (; d < dim; ++d) out[d] = load(source[d * step]);
        for (; d < width; ++d) out[d] = 0.0f;
      }
    }
  });
  std::memset(target + rows * width, 0,
              static_cast<size_t>((height - rows) * width) * sizeof(float));
}

// The same for rows [row, row + rows).
inline void packRows(const TensorView& t, int64_t b, int64_t h, int64_t row, int64_t rows,
                     float* target, int64_t width, int64_t height) {
  gatherRows(
      t, b, h, rows, [row](int64_t i) { return row + i; }, target, width, height);
}

// Writes rows of f32 to head (b, h).
inline void unpackRows(const float* source, int64_t width, const TensorView& t, int64_t b,
                       int64_t h, int64_t row, int64_t rows) {
  const int64_t dim = t.shape[3], step = t.stride[3];
  dispatchFloating(t.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (!std::is_same_v<T, double>) {
      T* target = t.data<T>() + b * t.stride[0] + h * t.stride[1] + row * t.stride[2];
      for (int64_t i = 0; i < rows; ++i, target += t.stride[2]) {
        const float* in = source + i * width;
        int64_t d = 0;
        if (step == 1) {
          for (; d + kLanes <= dim; d += kLanes) vstore(target + d, vload(in + d));
        }
        for (; d < dim; ++d) target[d * step] = store<T>(in[d]);
      }
    }
  });
}

inline void clearRows(const TensorView& t, int64_t b, int64_t h, int64_t row, int64_t end) {
  const float zeros[256] = {};
  for (; row < end; ++row) unpackRows(zeros, 0, t, b, h, row, 1);
}

inline bool hasF32Rows(const TensorView& t) { return t.dtype == DType::f32 && t.stride[3] == 1; }

inline const float* f32Row(const TensorView& t, int64_t b, int64_t h, int64_t row) {
  return t.data<float>() + b * t.stride[0] + h * t.stride[1] + row * t.stride[2];
}

// f32 rows one after another: strided ones would share few cache sets.
inline bool isDense(const TensorView& t) { return hasF32Rows(t) && t.stride[2] == t.shape[3]; }

// Rows [row, row + rows) as f32. They are used where they lie when they are dense, `dim` is the
// width asked for and nothing has to be padded; else they are packed into scratch.
inline HeadRows denseRows(const TensorView& t, int64_t b, int64_t h, int64_t row, int64_t rows,
                          float* scratch, int64_t width, int64_t height) {
  if (isDense(t) && width == t.shape[3] && height == rows) return {f32Row(t, b, h, row), width};
  packRows(t, b, h, row, rows, scratch, width, height);
  return {scratch, width};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
