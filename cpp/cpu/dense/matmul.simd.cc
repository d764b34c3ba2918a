// matmul on the CPU: 2 M N K FLOPs; bytes: y once, b once per kBlockRows rows of y, a once per
// kBlockColumns columns.
//
// Blocking after Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication",
// with one change: nothing is packed ahead of time. A work item owns a block of y (kBlockRows x
// kBlockColumns); for every slice of K it lays out its rows of a (second-level cache), then one
// panel of b at a time (first-level cache), which the register tile multiplies with all rows while
// the panel is hot. So there is no shared buffer, no barrier, and scratch memory does not grow with
// the operands. Operands that already lie right (f32 rows of a; b of a product with few rows) are
// read in place.
//
// An element of y is one chain of FMAs in the order of k whatever the blocking, so results do not
// depend on the number of threads, nor on the number of rows; products with a thin side
// (matmul_dot.h) have another fixed order.
#include "cpp/ops/dense/matmul.h"

#include "cpp/cpu/dense/matmul_dot.h"
#include "cpp/cpu/dense/matmul_finish.h"
#include "cpp/cpu/dense/matmul_pack.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

using ops::Matmul;
using ops::MatmulShape;

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t roundUp(int64_t a, int64_t b) { return ceilDiv(a, b) * b; }

// Below this many FLOPs an item is not worth handing to another thread.
constexpr int64_t kSmallItem = 1 << 20;
// Enough items to keep many threads evenly busy; a constant, so that blocks never depend on the
// machine.
constexpr int64_t kWantedItems = 16;

// One register tile: out = in (or 0) + a b.
template <class A>
using TileFunction = void (*)(int64_t depth, const A* a, int64_t aRow, const A* b, int64_t bStep,
                              const A* in, int64_t inRow, A* out, int64_t outRow);

template <int MR, int NR, class A>
void tile(int64_t depth, const A* a, int64_t aRow, const A* b, int64_t bStep, const A* in,
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
  tileMultiply<MR, NR, A>(depth, a, 1, aRow, b, bStep, c);
#pragma GCC unroll 4
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < NR; ++v) vstore(out + r * outRow + v * lanes, c[r][v]);
  }
}

static_assert(kTileRows == 4 && kTileVectors <= 4);

template <int MR, class A>
TileFunction<A> tileOfRows(int64_t vectors) {
  switch (vectors) {
    case 1:
      return tile<MR, 1, A>;
    case 2:
      return tile<MR, 2, A>;
    case 3:
      return tile < MR, kTileVectors < 3 ? 1 : 3, A > ;
    default:
      return tile < MR, kTileVectors < 4 ? 1 : 4, A > ;
  }
}
template <class A>
TileFunction<A> tileFor(int64_t rows, int64_t vectors) {
  switch (rows) {
    case 1:
      return tileOfRows<1, A>(vectors);
    case 2:
      return tileOfRows<2, A>(vectors);
    case 3:
      return tileOfRows<3, A>(vectors);
    default:
      return tileOfRows<4, A>(vectors);
  }
}

// How y is cut into work items.
struct Grid {
  int64_t rows, columns;            // of a block
  int64_t rowBlocks, columnBlocks;  // per batch element
  int64_t perItem;                  // batch elements of one item, when these are small

  Grid(const MatmulShape& s, int64_t width, int64_t batches) {
    rows = roundUp(ceilDiv(s.m, ceilDiv(s.m, Matmul::kBlockRows)), kTileRows);
    columns = std::min(roundUp(s.n, width), Matmul::kBlockColumns / width * width);
    const int64_t depth = std::max<int64_t>(1, s.k * s.sums());
    const auto items = [&] { return batches * ceilDiv(s.m, rows) * ceilDiv(s.n, columns); };
    while (items() < kWantedItems && 4 * rows * columns * depth > kSmallItem) {
      if (columns > width && columns >= rows) {
        columns = roundUp(columns / 2, width);
      } else if (rows > kTileRows) {
        rows = roundUp(rows / 2, kTileRows);
      } else {
        break;
      }
    }
    rowBlocks = ceilDiv(s.m, rows);
    columnBlocks = ceilDiv(s.n, columns);
    const int64_t work = 2 * s.m * s.n * depth;
    perItem = rowBlocks * columnBlocks == 1 ? std::max<int64_t>(1, kSmallItem / work) : 1;
  }
};

template <class T>
class Product {
  using A = Accumulator<T>;
  static constexpr int64_t lanes = kLanesOf<A>;
  static constexpr int64_t width = kTileVectors * lanes;
  // A panel of b fills two thirds of a first-level cache of 48 KB, or less.
  static constexpr int64_t kDepth = width * sizeof(A) >= 256 ? 128 : 256;
  static_assert(kDepth <= Matmul::kBlockDepth && width <= 64);

 public:
  explicit Product(const Matmul& p) : p_(p), s_(p.shape), batches_(s_.batches()), sums_(s_.sums()) {
    finish_ = {p.y.data<T>(),
               p.preactivation.defined() ? p.preactivation.data<T>() : nullptr,
               s_.n,
               p.bias.defined() ? p.bias.data<T>() : nullptr,
               p.bias.defined() ? p.bias.stride[0] : 0,
               p.activation};
  }

  void run(Context& context) const {
    if (batches_ * s_.m * s_.n == 0) return;
    const size_t each = p_.workspacePerThread();
    const auto scratch = [&](int thread) {
      return reinterpret_cast<A*>(context.workspace.data + each * static_cast<size_t>(thread));
    };
    const bool thinRows = s_.m <= Matmul::kThin && s_.bk == 1 && s_.n > 1;
    const bool thinColumns = s_.n <= Matmul::kThin && s_.ak == 1;
    if (thinRows || thinColumns) {
      const int64_t wide = thinRows ? s_.n : s_.m;
      const int64_t grain = dotGrain(wide);
      const int64_t pieces = ceilDiv(wide, grain);
      context.pool.forEach(batches_ * pieces, [&](int64_t item, int thread) {
        const int64_t begin = item % pieces * grain;
        dots(thinRows, item / pieces, begin, std::min(wide, begin + grain), scratch(thread));
      });
      return;
    }
    const Grid grid(s_, width, batches_);
    const int64_t blocks = grid.rowBlocks * grid.columnBlocks;
    context.pool.forEach(ceilDiv(batches_ * blocks, grid.perItem), [&](int64_t item, int thread) {
      const int64_t end = std::min(batches_ * blocks, (item + 1) * grid.perItem);
      for (int64_t i = item * grid.perItem; i < end; ++i) {
        const int64_t row = i % blocks / grid.columnBlocks * grid.rows;
        const int64_t column = i % grid.columnBlocks * grid.columns;
        block(i / blocks, row, std::min(grid.rows, s_.m - row), column,
              std::min(grid.columns, s_.n - column), scratch(thread));
      }
    });
  }

 private:
  // Rows of the wide operand per item: 64 KB of it or more, at most 256 rows.
  int64_t dotGrain(int64_t wide) const {
    const int64_t bytes = std::max<int64_t>(1, s_.k * static_cast<int64_t>(sizeof(T)));
    return std::clamp(roundUp(std::max((1 << 16) / bytes, wide / kWantedItems), 4), int64_t{4},
                      int64_t{256});
  }

  // Columns (or, with a thin b, rows) [begin, end) of one batch element.
  void dots(bool thinRows, int64_t batch, int64_t begin, int64_t end, A* scratch) const {
    constexpr int64_t kMost = 256;
    const int64_t thin = thinRows ? s_.m : s_.n, wide = end - begin;
    const int64_t xRow = thinRows ? s_.am : s_.bn, xStep = thinRows ? s_.ak : s_.bk;
    const int64_t wRow = thinRows ? s_.bn : s_.am;
    const MatmulShape::Offsets at = s_.batchOffsets(batch);
    A out[Matmul::kThin * kMost];
    std::fill(out, out + thin * kMost, A{});
    for (int64_t sum = 0; sum < sums_; ++sum) {
      const MatmulShape::Offsets of = s_.summedOffsets(sum);
      const T* a = p_.a.data<T>() + at.a + of.a;
      const T* b = p_.b.data<T>() + at.b + of.b;
      const T* x = thinRows ? a : b;
      const T* w = (thinRows ? b : a) + begin * wRow;
      for (int64_t k = 0; k < s_.k; k += Matmul::kDotDepth) {
        const int64_t depth = std::min(Matmul::kDotDepth, s_.k - k);
        const A* rows;
        int64_t row = xRow;
        if constexpr (std::is_same_v<T, A>) {
          rows = x + k * xStep;
        }
        if (!std::is_same_v<T, A> || xStep != 1) {
          row = roundUp(depth, 16) + 16;
          packRows(x + k * xStep, xRow, xStep, thin, depth, scratch, row);
          rows = scratch;
        }
        dotProducts(rows, row, thin, w + k, wRow, wide, depth, out, kMost);
      }
    }
    if (thinRows) {
      finish_(out, kMost, thin, wide, batch * s_.m * s_.n + begin, begin);
      return;
    }
    A turned[kMost * (Matmul::kThin + 8)];
    const int64_t turnedRow = roundUp(thin, lanes);
    for (int64_t i = 0; i < wide; ++i) {
      for (int64_t j = 0; j < turnedRow; ++j)
        turned[i * turnedRow + j] = j < thin ? out[j * kMost + i] : 0;
    }
    finish_(turned, turnedRow, wide, thin, (batch * s_.m + begin) * s_.n, 0);
  }

  void block(int64_t batch, int64_t row, int64_t rows, int64_t column, int64_t columns,
             A* scratch) const {
    const MatmulShape::Offsets at = s_.batchOffsets(batch);
    const int64_t first = (batch * s_.m + row) * s_.n + column;  // of the block in y
    const int64_t slices = ceilDiv(s_.k, kDepth), steps = sums_ * slices;
    const bool plain = finish_.plain();
    // Sums that are not finished wait in y where that has their type, else in scratch.
    const int64_t packedRow = std::min(roundUp(s_.k, 16), kDepth) + 16;
    A* const packedA = scratch;
    A* const panel = packedA + rows * packedRow;
    A* waiting = panel + kDepth * width;
    int64_t waitingRow = roundUp(columns, width);
    if constexpr (std::is_same_v<T, A>) {
      waiting = finish_.y + first;
      waitingRow = s_.n;
    }
    const bool directA = std::is_same_v<T, A> && s_.ak == 1;
    const bool directB =
        std::is_same_v<T, A> && s_.bn == 1 && (rows <= kInPlaceRows || s_.bk == width);

    for (int64_t step = 0; step < std::max<int64_t>(1, steps); ++step) {
      const MatmulShape::Offsets of =
          steps == 0 ? MatmulShape::Offsets{} : s_.summedOffsets(step / slices);
      const int64_t k = steps == 0 ? 0 : step % slices * kDepth;
      const int64_t depth = steps == 0 ? 0 : std::min(kDepth, s_.k - k);
      const T* a = p_.a.data<T>() + at.a + of.a + row * s_.am + k * s_.ak;
      const T* b = p_.b.data<T>() + at.b + of.b + k * s_.bk + column * s_.bn;
      const A* aRows = packedA;
      int64_t aRow = packedRow;
      if (!directA) {
        packRows(a, s_.am, s_.ak, rows, depth, packedA, packedRow);
      } else if constexpr (std::is_same_v<T, A>) {
        aRows = a;
        aRow = s_.am;
      }
      const bool last = step + 1 >= steps;
      for (int64_t j = 0; j < columns; j += width) {
        const int64_t valid = std::min(width, columns - j);
        const int64_t vectors = ceilDiv(valid, lanes);
        const bool whole = valid == vectors * lanes;
        const A* bPanel = panel;
        int64_t bStep = vectors * lanes;
        if (!directB || !whole) {
          packPanel(b + j * s_.bn, s_.bk, s_.bn, depth, valid, panel, bStep);
        } else if constexpr (std::is_same_v<T, A>) {
          bPanel = b + j;
          bStep = s_.bk;
        }
        // A tile may go straight to where its sums wait if that has room for whole vectors.
        const bool straight = (!last || plain) && (whole || !std::is_same_v<T, A>);
        for (int64_t i = 0; i < rows; i += kTileRows) {
          const int64_t tall = std::min<int64_t>(kTileRows, rows - i);
          A* const sums = waiting + i * waitingRow + j;
          const auto multiply = tileFor<A>(tall, vectors);
          const A* const aTile = aRows + i * aRow;
          if (straight) {
            multiply(depth, aTile, aRow, bPanel, bStep, step == 0 ? nullptr : sums, waitingRow,
                     sums, waitingRow);
            continue;
          }
          alignas(64) A edge[kTileRows * width];
          const A* in = nullptr;
          if (step > 0) {
            copyTile(sums, waitingRow, edge, width, tall, valid);
            in = edge;
          }
          multiply(depth, aTile, aRow, bPanel, bStep, in, width, edge, width);
          if (last) {
            finish_(edge, width, tall, valid, first + i * s_.n + j, column + j);
          } else {
            copyTile(edge, width, sums, waitingRow, tall, valid);
          }
        }
      }
    }
  }

  static void copyTile(const A* from, int64_t fromRow, A* to, int64_t toRow, int64_t rows,
                       int64_t columns) {
    for (int64_t i = 0; i < rows; ++i) std::copy_n(from + i * fromRow, columns, to + i * toRow);
  }

  // With so few rows packing a panel of b would cost more than it saves.
  static constexpr int64_t kInPlaceRows = 32;

  const Matmul& p_;
  const MatmulShape& s_;
  const int64_t batches_, sums_;
  Finish<T> finish_;
};

}  // namespace

Status matmul(const Matmul& p, Context& context) {
  dispatchFloating(p.a.dtype,
                   [&](auto tag) { Product<typename decltype(tag)::type>(p).run(context); });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
