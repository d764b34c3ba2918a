// What happens to a finished tile of matmul: bias, the kept pre-activation, activation, rounding to
// the stored type.
#pragma once

#include "cpp/core/half.h"
#include "cpp/cpu/activation.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

template <class T>
struct Finish {
  using A = Accumulator<T>;
  static constexpr int lanes = kLanesOf<A>;
  T* y;              // row-major, `row` elements from row to row
  T* preactivation;  // the same, or null
  int64_t row;
  const T* bias;  // or null
  int64_t biasStep;
  ops::Activation activation;

  // Whether results of type A may be written to y as they are.
  bool plain() const {
    return std::is_same_v<T, A> && bias == nullptr && activation == ops::Activation::none;
  }

  // tile: rows x columns, readable up to whole vectors; overwritten. Its first element goes to
  // y[at].
  __attribute__((noinline)) void operator()(A* tile, int64_t tileRow, int64_t rows, int64_t columns,
                                            int64_t at, int64_t column) const {
    if (bias != nullptr) addBias(tile, tileRow, rows, columns, column);
    if (preactivation != nullptr) write(tile, tileRow, rows, columns, preactivation + at);
    if (activation != ops::Activation::none) {
      for (int64_t i = 0; i < rows; ++i) activate(activation, tile + i * tileRow, columns);
    }
    write(tile, tileRow, rows, columns, y + at);
  }

 private:
  void addBias(A* tile, int64_t tileRow, int64_t rows, int64_t columns, int64_t column) const {
    for (int64_t j = 0; j < columns; j += lanes) {
      A b[lanes] = {};
      for (int64_t l = 0; l < lanes && j + l < columns; ++l)
        b[l] = load(bias[(column + j + l) * biasStep]);
      for (int64_t i = 0; i < rows; ++i) {
        A* t = tile + i * tileRow + j;
        vstore(t, vload(t) + vload(b));
      }
    }
  }

  void write(const A* tile, int64_t tileRow, int64_t rows, int64_t columns, T* to) const {
    for (int64_t i = 0; i < rows; ++i) {
      const A* t = tile + i * tileRow;
      int64_t j = 0;
      for (; j + lanes <= columns; j += lanes) vstore(to + i * row + j, vload(t + j));
      if (j < columns) vstorePart(to + i * row + j, vload(t + j), static_cast<int>(columns - j));
    }
  }
};

}  // namespace longspan::cpu::LONGSPAN_LEVEL
