#include "cpp/cpu/attention/head_rows.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

// The i-th row is row rowOf(i).
template <class RowOf>
void fetchRows(const TensorView& t, int64_t b, int64_t h, int64_t rows, RowOf&& rowOf,
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

}  // namespace

void gatherRows(const TensorView& t, int64_t b, int64_t h, int64_t rows, const int32_t* positions,
                float* target, int64_t width, int64_t height) {
  fetchRows(
      t, b, h, rows, [=](int64_t i) { return int64_t{positions[i]}; }, target, width, height);
}
void packRows(const TensorView& t, int64_t b, int64_t h, int64_t row, int64_t rows, float* target,
              int64_t width, int64_t height) {
  fetchRows(
      t, b, h, rows, [=](int64_t i) { return row + i; }, target, width, height);
}

void unpackRows(const float* source, int64_t width, const TensorView& t, int64_t b, int64_t h,
                int64_t row, int64_t rows) {
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

void transposeRows(const float* source, int64_t sourceRow, int64_t rows, int64_t columns,
                   float* target, int64_t targetRow, int64_t filled) {
  transposeBlock(source, sourceRow, rows, columns, target, targetRow);
  const int64_t begin = roundUp(rows, kLanes);
  for (int64_t j = 0; j < columns && begin < filled; ++j) {
    std::fill(target + j * targetRow + begin, target + j * targetRow + filled, 0.0f);
  }
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
