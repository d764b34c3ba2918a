// matmul on the CPU: 2 M N K FLOPs; bytes: y once, b once per block of rows of y, a once per block
// of columns.
//
// Blocking after Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication",
// with one change: nothing is packed ahead of time. A work item owns a block of y (at most
// kBlockRows x kBlockColumns); for every slice of K it lays out its rows of a (second-level cache),
// then one panel of b at a time (first-level cache), which the register tile multiplies with all
// rows while the panel is hot. So there is no shared buffer, no barrier, and scratch memory does
// not grow with the operands. Operands that already lie right (f32 rows of a; b of a product with
// few rows) are read in place.
//
// An element of y is one chain of FMAs in the order of k whatever the blocking, so results do not
// depend on the number of threads, nor on the number of rows. Two exceptions have other orders,
// fixed by the lengths alone: products with a thin side (matmul_dot.h), and those with a long K and
// a small y, whose K is cut into parts (MatmulShape::splits).
#include "cpp/ops/dense/matmul.h"

#include "cpp/cpu/dense/matmul_dot.h"
#include "cpp/cpu/dense/matmul_finish.h"
#include "cpp/cpu/dense/matmul_pack.h"
#include "cpp/cpu/dense/matmul_tile.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

using ops::Matmul;
using ops::MatmulShape;

constexpr int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Below this many FLOPs an item is not worth handing to another thread.
constexpr int64_t kSmallItem = 1 << 20;

// How the work is cut into items: blocks of y, times parts of K.
struct Grid {
  int64_t rows, columns;            // of a block
  int64_t rowBlocks, columnBlocks;  // per batch element
  int64_t splits;
  int64_t perItem;  // batch elements of one item, when these are small

  Grid(const MatmulShape& s, int64_t width, int64_t batches) {
    rows = roundUp(ceilDiv(s.m, ceilDiv(s.m, Matmul::kBlockRows)), kTileRows);
    columns = std::min(roundUp(s.n, width), Matmul::kBlockColumns / width * width);
    splits = s.splits();
    const int64_t depth = std::max<int64_t>(1, s.k * s.sums());
    const auto items = [&] {
      return batches * splits * ceilDiv(s.m, rows) * ceilDiv(s.n, columns);
    };
    // Narrower blocks pack more often: halving stops at what is worth it.
    while (items() < s.wantedItems() && 4 * rows * columns * depth > kSmallItem) {
      if (columns > width && columns >= rows) {
        columns = roundUp(columns / 2, width);
      } else if (rows >= 64) {
        rows = roundUp(rows / 2, kTileRows);
      } else {
        break;
      }
    }
    rowBlocks = ceilDiv(s.m, rows);
    columnBlocks = ceilDiv(s.n, columns);
    const int64_t work = 2 * s.m * s.n * depth;
    perItem = blocks() * splits == 1 ? std::max<int64_t>(1, kSmallItem / work) : 1;
  }
  int64_t blocks() const { return rowBlocks * columnBlocks; }
};

template <class T>
class Product {
  using A = Accumulator<T>;
  static constexpr int64_t lanes = kLanesOf<A>;
  static constexpr int64_t width = kTileVectors * lanes;
  // A panel of b fills two thirds of a first-level cache of 48 KB, or less.
  static constexpr int64_t kDepth = width * sizeof(A) >= 256 ? 128 : 256;
  static_assert(kDepth <= Matmul::kBlockDepth && width <= 64);
  // With so few rows packing a panel of b would cost more than it saves. Slices are then thin, so
  // that b is read as that many rows side by side.
  static constexpr int64_t kInPlaceRows = 32, kInPlaceDepth = 32;

  // A block of y, and the slices of K (over all sums) that are multiplied for it.
  struct Item {
    int64_t batch, row, rows, column, columns;
    int64_t begin, end;
    A* sums;  // row-major [m, n] that takes the sums of these slices; null: they make y
  };

 public:
  explicit Product(const Matmul& p) : p_(p), s_(p.shape), batches_(s_.batches()), sums_(s_.sums()) {
    const bool packs = s_.m > kInPlaceRows || s_.bn != 1;
    sliceDepth_ = packs ? kDepth : kInPlaceDepth;
    slices_ = ceilDiv(s_.k, sliceDepth_);
    inPlace_ = !packs || (std::is_same_v<T, A> && s_.bn == 1 && s_.bk == width);
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
    std::byte* const base = context.workspace.data + p_.splitBytes();
    const auto scratch = [&](int thread) {
      return reinterpret_cast<A*>(base + each * static_cast<size_t>(thread));
    };
    if (p_.thinRows() || p_.thinColumns()) {
      const int64_t wide = p_.thinRows() ? s_.n : s_.m;
      const int64_t grain = dotGrain(wide);
      const int64_t pieces = ceilDiv(wide, grain);
      context.pool.forEach(batches_ * pieces, [&](int64_t item, int thread) {
        const int64_t begin = item % pieces * grain;
        dots(item / pieces, begin, std::min(wide, begin + grain), scratch(thread));
      });
      return;
    }
    const Grid grid(s_, width, batches_);
    const int64_t count = batches_ * grid.blocks() * grid.splits;
    A* const parts = reinterpret_cast<A*>(context.workspace.data);
    context.pool.forEach(ceilDiv(count, grid.perItem), [&](int64_t item, int thread) {
      const int64_t end = std::min(count, (item + 1) * grid.perItem);
      for (int64_t i = item * grid.perItem; i < end; ++i) {
        block(itemOf(grid, i, parts), scratch(thread));
      }
    });
    if (grid.splits > 1) addParts(parts, grid.splits, context);
  }

 private:
  Item itemOf(const Grid& grid, int64_t index, A* parts) const {
    Item item;
    item.column = index % grid.columnBlocks * grid.columns;
    index /= grid.columnBlocks;
    item.row = index % grid.rowBlocks * grid.rows;
    index /= grid.rowBlocks;
    const int64_t split = index % grid.splits;
    item.batch = index / grid.splits;
    item.rows = std::min(grid.rows, s_.m - item.row);
    item.columns = std::min(grid.columns, s_.n - item.column);
    const int64_t steps = sums_ * slices_;
    item.begin = steps * split / grid.splits;
    item.end = steps * (split + 1) / grid.splits;
    item.sums = grid.splits > 1 ? parts + (split * batches_ + item.batch) * s_.m * s_.n : nullptr;
    return item;
  }

  // Rows of the wide operand per item: 64 KB of it or more, at most 256 rows.
  int64_t dotGrain(int64_t wide) const {
    const int64_t bytes = std::max<int64_t>(1, s_.k * static_cast<int64_t>(sizeof(T)));
    return std::clamp(roundUp(std::max((1 << 16) / bytes, wide / s_.wantedItems()), 4), int64_t{4},
                      int64_t{256});
  }

  // Columns (or, with a thin b, rows) [begin, end) of one batch element.
  void dots(int64_t batch, int64_t begin, int64_t end, A* scratch) const {
    constexpr int64_t kMost = 256;
    const bool thinRows = p_.thinRows();
    const int64_t thin = thinRows ? s_.m : s_.n, wide = end - begin;
    const int64_t xRow = thinRows ? s_.am : s_.bn, xStep = thinRows ? s_.ak : s_.bk;
    const int64_t wRow = thinRows ? s_.bn : s_.am;
    const MatmulShape::Offsets at = s_.batchOffsets(batch);
    alignas(64) A out[Matmul::kThin * kMost];
    std::fill(out, out + thin * kMost, A{});
    for (int64_t sum = 0; sum < sums_; ++sum) {
      const MatmulShape::Offsets of = s_.summedOffsets(sum);
      const T* a = p_.a.data<T>() + at.a + of.a;
      const T* b = p_.b.data<T>() + at.b + of.b;
      const T* x = thinRows ? a : b;
      const T* w = (thinRows ? b : a) + begin * wRow;
      for (int64_t k = 0; k < s_.k; k += Matmul::kDotDepth) {
        const int64_t depth = std::min(Matmul::kDotDepth, s_.k - k);
        const A* rows = scratch;
        int64_t row = roundUp(depth, 16) + 16;
        if (!std::is_same_v<T, A> || xStep != 1) {
          packRows(x + k * xStep, xRow, xStep, thin, depth, scratch, row);
        } else if constexpr (std::is_same_v<T, A>) {
          rows = x + k;
          row = xRow;
        }
        dotProducts(rows, row, thin, w + k, wRow, wide, depth, out, kMost);
      }
    }
    if (thinRows) {
      finish_(out, kMost, thin, wide, batch * s_.m * s_.n + begin, begin);
      return;
    }
    A turned[kMost * roundUp(Matmul::kThin, lanes)];
    const int64_t turnedRow = roundUp(thin, lanes);
    for (int64_t i = 0; i < wide; ++i) {
      for (int64_t j = 0; j < turnedRow; ++j) {
        turned[i * turnedRow + j] = j < thin ? out[j * kMost + i] : 0;
      }
    }
    finish_(turned, turnedRow, wide, thin, (batch * s_.m + begin) * s_.n, 0);
  }

  void block(const Item& item, A* scratch) const {
    const int64_t first = (item.batch * s_.m + item.row) * s_.n + item.column;  // in y
    // Sums that are not finished wait in `sums`, in y where that has their type, or in scratch.
    const int64_t packedRow = std::min(roundUp(s_.k, 16), kDepth) + 16;
    A* const packedA = scratch;
    A* const panel = packedA + item.rows * packedRow;
    A* waiting = panel + kDepth * width;
    int64_t waitingRow = roundUp(item.columns, width);
    bool roomy = true;  // whole vectors may be written at the right edge
    if (item.sums != nullptr) {
      waiting = item.sums + item.row * s_.n + item.column;
      waitingRow = s_.n;
      roomy = false;
    } else if constexpr (std::is_same_v<T, A>) {
      waiting = finish_.y + first;
      waitingRow = s_.n;
      roomy = false;
    }
    const MatmulShape::Offsets at = s_.batchOffsets(item.batch);
    const T* const aBlock = p_.a.data<T>() + at.a + item.row * s_.am;
    const T* const bBlock = p_.b.data<T>() + at.b + item.column * s_.bn;
    // The first of the block's columns of b in slice `step`.
    const auto bOf = [&](int64_t step) -> const T* {
      if (step >= item.end) return nullptr;
      return bBlock + s_.summedOffsets(step / slices_).b + step % slices_ * sliceDepth_ * s_.bk;
    };

    // Without any slice (K = 0) one of depth 0 still finishes the block.
    for (int64_t step = item.begin; step < std::max(item.end, item.begin + 1); ++step) {
      Slice slice{packedA, packedRow,          bOf(step),           bOf(step + 1),
                  0,       step == item.begin, step + 1 >= item.end};
      if (step < item.end) {
        const int64_t k = step % slices_ * sliceDepth_;
        slice.depth = std::min(sliceDepth_, s_.k - k);
        const T* a = aBlock + s_.summedOffsets(step / slices_).a + k * s_.ak;
        if (!std::is_same_v<T, A> || s_.ak != 1) {
          packRows(a, s_.am, s_.ak, item.rows, slice.depth, packedA, packedRow);
        } else if constexpr (std::is_same_v<T, A>) {
          slice.a = a;
          slice.aRow = s_.am;
        }
      }
      for (int64_t j = 0; j < item.columns; j += width) {
        columnsOf(item, slice, j, panel, waiting, waitingRow, roomy, first);
      }
    }
  }

  // One slice of K for one block.
  struct Slice {
    const A* a;
    int64_t aRow;
    const T *b, *next;  // first column of the block, in this slice and the one after it
    int64_t depth;
    bool begins, ends;  // the sums
  };

  // All rows of the block times the panel of b that begins at column j of the block.
  void columnsOf(const Item& item, const Slice& slice, int64_t j, A* panel, A* waiting,
                 int64_t waitingRow, bool roomy, int64_t first) const {
    const int64_t valid = std::min(width, item.columns - j);
    const int64_t vectors = ceilDiv(valid, lanes);
    const bool whole = valid == vectors * lanes;
    const bool finishes = slice.ends && item.sums == nullptr;
    const bool straight = (!finishes || finish_.plain()) && (whole || roomy);
    const bool inPlace = inPlace_ && (std::is_same_v<T, A> ? whole : valid == width);
    if (!inPlace) {
      packPanel(slice.b + j * s_.bn, s_.bk, s_.bn, slice.depth, valid, panel, vectors * lanes);
    }
    const bool more = j + width < item.columns;
    const Ahead<T> ahead(inPlace ? nullptr
                         : more  ? slice.b + (j + width) * s_.bn
                                 : slice.next,
                         s_.bk, s_.bn, slice.depth,
                         std::min(width, more ? item.columns - j - width : item.columns));
    const int64_t tiles = ceilDiv(item.rows, kTileRows);
    for (int64_t i = 0; i < item.rows; i += kTileRows) {
      ahead.fetch(i / kTileRows, tiles);
      const int64_t tall = std::min<int64_t>(kTileRows, item.rows - i);
      A* const sums = waiting + i * waitingRow + j;
      alignas(64) A edge[kTileRows * width];
      const A* in = slice.begins ? nullptr : sums;
      int64_t inRow = waitingRow;
      if (!straight && in != nullptr) {
        copyTile(sums, waitingRow, edge, width, tall, valid);
        in = edge;
        inRow = width;
      }
      A* const out = straight ? sums : edge;
      const int64_t outRow = straight ? waitingRow : width;
      const A* const a = slice.a + i * slice.aRow;
      if (inPlace) {
        TileFunction<A, T> multiply;
        if constexpr (std::is_same_v<T, A>) {
          multiply = tileFor<A>(tall, vectors);
        } else {
          multiply = tileOfWidth<kTileVectors, A, T>(tall);
        }
        multiply(slice.depth, a, slice.aRow, slice.b + j, s_.bk, in, inRow, out, outRow);
      } else {
        tileFor<A>(tall, vectors)(slice.depth, a, slice.aRow, panel, vectors * lanes, in, inRow,
                                  out, outRow);
      }
      if (straight) continue;
      if (finishes) {
        finish_(edge, width, tall, valid, first + i * s_.n + j, item.column + j);
      } else {
        copyTile(edge, width, sums, waitingRow, tall, valid);
      }
    }
  }

  static void copyTile(const A* from, int64_t fromRow, A* to, int64_t toRow, int64_t rows,
                       int64_t columns) {
    for (int64_t i = 0; i < rows; ++i) std::copy_n(from + i * fromRow, columns, to + i * toRow);
  }

  // y from the sums of the parts of K, [splits, batch, m, n].
  void addParts(const A* parts, int64_t splits, Context& context) const {
    constexpr int64_t kPiece = 256;
    const int64_t rows = batches_ * s_.m, each = rows * s_.n;
    context.pool.forRange(rows, ceilDiv(1 << 14, s_.n), [&](int64_t begin, int64_t end) {
      alignas(64) A sum[kPiece];
      for (int64_t row = begin; row < end; ++row) {
        for (int64_t j = 0; j < s_.n; j += kPiece) {
          const int64_t columns = std::min(kPiece, s_.n - j), at = row * s_.n + j;
          std::copy_n(parts + at, columns, sum);
          for (int64_t split = 1; split < splits; ++split) {
            const A* part = parts + split * each + at;
            for (int64_t i = 0; i < columns; ++i) sum[i] += part[i];
          }
          finish_(sum, kPiece, 1, columns, at, j);
        }
      }
    });
  }

  const Matmul& p_;
  const MatmulShape& s_;
  const int64_t batches_, sums_;
  int64_t sliceDepth_, slices_;
  bool inPlace_;  // panels of b are read where they lie
  Finish<T> finish_;
};

}  // namespace

Status matmul(const Matmul& p, Context& context) {
  dispatchFloating(p.a.dtype,
                   [&](auto tag) { Product<typename decltype(tag)::type>(p).run(context); });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
