// Bringing operands of matmul into the order and type the register tile reads. T is the stored
// type, A = Accumulator<T> what is computed in.
#pragma once

#include <algorithm>

#include "cpp/cpu/tile.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

// target[i * targetRow + j] = source[i * rowStep + j * step], i < rows, j < depth: rows of A with
// the elements of k side by side. targetRow leaves room for depth rounded up to whole vectors.
template <class T, class A>
void packRows(const T* source, int64_t rowStep, int64_t step, int64_t rows, int64_t depth,
              A* target, int64_t targetRow) {
  constexpr int lanes = kLanesOf<A>;
  if (step == 1) {
    for (int64_t i = 0; i < rows; ++i) {
      const T* from = source + i * rowStep;
      A* to = target + i * targetRow;
      int64_t j = 0;
      for (; j + lanes <= depth; j += lanes) vstore(to + j, vload(from + j));
      for (; j < depth; ++j) to[j] = load(from[j]);
    }
    return;
  }
  if constexpr (std::is_same_v<A, float>) {
    if (rowStep == 1) {
      transposeBlock(source, step, depth, rows, target, targetRow);
      return;
    }
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < depth; ++j)
      target[i * targetRow + j] = load(source[i * rowStep + j * step]);
  }
}

// target[i * width + j] = source[i * step + j * columnStep], i < depth, j < columns: a panel of B.
// width is columns rounded up to whole vectors; what lies beyond columns becomes 0.
template <class T, class A>
void packPanel(const T* source, int64_t step, int64_t columnStep, int64_t depth, int64_t columns,
               A* target, int64_t width) {
  constexpr int lanes = kLanesOf<A>;
  const int64_t whole = columns / lanes * lanes;
  if (columnStep == 1) {
    for (int64_t i = 0; i < depth; ++i) {
      const T* from = source + i * step;
      A* to = target + i * width;
      int64_t j = 0;
      for (; j < whole; j += lanes) vstore(to + j, vload(from + j));
      if (j < columns) vstore(to + j, vloadPart(from + j, static_cast<int>(columns - j)));
    }
    return;
  }
  if constexpr (std::is_same_v<A, float>) {
    if (step == 1) {
      transposeBlock(source, columnStep, columns, depth, target, width);
      return;
    }
  }
  for (int64_t i = 0; i < depth; ++i) {
    int64_t j = 0;
    for (; j < columns; ++j) target[i * width + j] = load(source[i * step + j * columnStep]);
    for (; j < width; ++j) target[i * width + j] = 0;
  }
}

// Memory that packPanel will read: `rows` runs of `length` elements. It is fetched share by share
// while the tiles before it are multiplied; packing then finds it in the second-level cache (3 to 6
// % of the speed).
template <class T>
struct Ahead {
  const T* from = nullptr;
  int64_t rows = 0, rowStep = 0, length = 0;

  Ahead(const T* panel, int64_t step, int64_t columnStep, int64_t depth, int64_t columns) {
    if (panel == nullptr || (columnStep != 1 && step != 1)) return;
    from = panel;
    rows = columnStep == 1 ? depth : columns;
    rowStep = columnStep == 1 ? step : columnStep;
    length = columnStep == 1 ? columns : depth;
  }

  // Share `part` of `parts`.
  LONGSPAN_INLINE void fetch(int64_t part, int64_t parts) const {
    for (int64_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) {
      const T* line = from + row * rowStep;
      for (int64_t i = 0; i < length; i += 64 / static_cast<int64_t>(sizeof(T))) {
        __builtin_prefetch(line + i, 0, 2);
      }
    }
  }
};

}  // namespace longspan::cpu::LONGSPAN_LEVEL
