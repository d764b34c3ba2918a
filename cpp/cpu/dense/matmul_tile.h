// The register tile of cpp/cpu/tile.h for every height and width that occurs at the edges of y.
#pragma once

#include "cpp/cpu/tile.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

// out = in (or 0) + a b for one tile. a has its k side by side, b its columns.
template <class A, class B>
using TileFunction = void (*)(int64_t depth, const A* a, int64_t aRow, const B* b, int64_t bStep,
                              const A* in, int64_t inRow, A* out, int64_t outRow);

template <int MR, int NR, class A, class B>
void tile(int64_t depth, const A* a, int64_t aRow, const B* b, int64_t bStep, const A* in,
          int64_t inRow, A* out, int64_t outRow) {
  constexpr int lanes = kLanesOf<A>;
  Vector<A> c[MR][NR];
  tileClear(c);
  if (in != nullptr) {
#pragma GCC unroll 4
    for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < NR; ++v) c[r][v] = vload(in + r * inRow + v * lanes);
    }
  }
  tileMultiply<MR, NR, 0, A>(depth, a, 1, aRow, b, bStep, c);
#pragma GCC unroll 4
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < NR; ++v) vstore(out + r * outRow + v * lanes, c[r][v]);
  }
}

static_assert(kTileRows == 4 && kTileVectors <= 4);

template <int NR, class A, class B>
TileFunction<A, B> tileOfWidth(int64_t rows) {
  constexpr TileFunction<A, B> table[] = {tile<1, NR, A, B>, tile<2, NR, A, B>, tile<3, NR, A, B>,
                                          tile<4, NR, A, B>};
  return table[rows - 1];
}

// rows in 1 .. kTileRows, vectors in 1 .. kTileVectors.
template <class A>
TileFunction<A, A> tileFor(int64_t rows, int64_t vectors) {
  constexpr int three = kTileVectors < 3 ? 1 : 3, four = kTileVectors < 4 ? 1 : 4;
  switch (vectors) {
    case 1:
      return tileOfWidth<1, A, A>(rows);
    case 2:
      return tileOfWidth<2, A, A>(rows);
    case 3:
      return tileOfWidth<three, A, A>(rows);
    default:
      return tileOfWidth<four, A, A>(rows);
  }
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
