// Products with a thin side (decoding: a few rows times a weight stored [out, in]): both operands
// run along k, so nothing is packed and every element of the wide operand is read once, as it is
// stored.
#pragma once

#include "cpp/core/half.h"
#include "cpp/cpu/tile.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

// out[i * outRow + j] += sum over k of x[i * xRow + k] * w[j * wRow + k], i < XS, j < WS. x holds
// accumulator-type values.
template <int XS, int WS, class T, class A>
void dotTile(const A* x, int64_t xRow, const T* w, int64_t wRow, int64_t depth, A* out,
             int64_t outRow) {
  constexpr int lanes = kLanesOf<A>;
  Vector<A> c[XS][WS];
  tileClear(c);
  int64_t k = 0;
  const auto step = [&](auto loadPart) {
    Vector<A> wide[WS];
#pragma GCC unroll 4
    for (int j = 0; j < WS; ++j) wide[j] = loadPart(w + j * wRow + k);
#pragma GCC unroll 4
    for (int i = 0; i < XS; ++i) {
      const Vector<A> thin = loadPart(x + i * xRow + k);
#pragma GCC unroll 4
      for (int j = 0; j < WS; ++j) c[i][j] = vfma(thin, wide[j], c[i][j]);
    }
  };
  for (; k + lanes <= depth; k += lanes) step([](const auto* p) { return vload(p); });
  if (k < depth) {
    const int rest = static_cast<int>(depth - k);
    step([rest](const auto* p) { return vloadPart(p, rest); });
  }
  for (int i = 0; i < XS; ++i) {
    for (int j = 0; j < WS; ++j) out[i * outRow + j] += vsum(c[i][j]);
  }
}

template <int XS, class T, class A>
void dotRows(const A* x, int64_t xRow, const T* w, int64_t wRow, int64_t columns, int64_t depth,
             A* out, int64_t outRow) {
  int64_t j = 0;
  for (; j + 4 <= columns; j += 4) {
    dotTile<XS, 4>(x, xRow, w + j * wRow, wRow, depth, out + j, outRow);
  }
  for (; j < columns; ++j) dotTile<XS, 1>(x, xRow, w + j * wRow, wRow, depth, out + j, outRow);
}

// The same for any number of rows of x, four at a time.
template <class T, class A>
void dotProducts(const A* x, int64_t xRow, int64_t rows, const T* w, int64_t wRow, int64_t columns,
                 int64_t depth, A* out, int64_t outRow) {
  for (int64_t i = 0; i < rows; i += 4, x += 4 * xRow, out += 4 * outRow) {
    switch (rows - i) {
      case 1:
        dotRows<1>(x, xRow, w, wRow, columns, depth, out, outRow);
        break;
      case 2:
        dotRows<2>(x, xRow, w, wRow, columns, depth, out, outRow);
        break;
      case 3:
        dotRows<3>(x, xRow, w, wRow, columns, depth, out, outRow);
        break;
      default:
        dotRows<4>(x, xRow, w, wRow, columns, depth, out, outRow);
        break;
    }
  }
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
