// Token rows of a [B, H, tokens, dim] view of any dtype and stride as f32, in place where possible.
#pragma once

#include "cpp/core/tensor_view.h"
#include "cpp/cpu/tile.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

struct HeadRows {
  const float* data;
  int64_t stride;
};

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

// Copies rows of head (b, h) to target: `width` floats a row with zeros beyond the head dimension,
// and zero rows up to `height`. The i-th row is row positions[i], or row `row` + i.
void gatherRows(const TensorView& t, int64_t b, int64_t h, int64_t rows, const int32_t* positions,
                float* target, int64_t width, int64_t height);
void packRows(const TensorView& t, int64_t b, int64_t h, int64_t row, int64_t rows, float* target,
              int64_t width, int64_t height);

// Writes rows of f32 to head (b, h).
void unpackRows(const float* source, int64_t width, const TensorView& t, int64_t b, int64_t h,
                int64_t row, int64_t rows);

// transposeBlock() of cpp/cpu/tile.h; lanes up to `filled` become 0.
void transposeRows(const float* source, int64_t sourceRow, int64_t rows, int64_t columns,
                   float* target, int64_t targetRow, int64_t filled = 0);

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
