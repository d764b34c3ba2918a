// Copies of rows into a cache, keys turned on the way where a call rotates (rotary_row.h).
//
// Bytes: twice what is appended. A rotation makes its table of cosines and sines once per new token
// and takes 6 FLOPs per pair.
#include "cpp/cpu/attention/cache_rows.h"
#include "cpp/cpu/attention/page_table.h"
#include "cpp/cpu/dense/rotary_row.h"
#include "cpp/ops/attention/kv_cache.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

struct Append {
  const ops::KvCacheAppend& p;
  const PageTable pages;

  explicit Append(const ops::KvCacheAppend& params)
      : p(params), pages(params.pageTable, params.keys.shape[0], params.keys.shape[2]) {}

  int64_t tokens() const { return p.k.shape[2]; }
  int64_t lengthOf(int64_t b) const { return elementAt(p.lengths, b); }
  int64_t countOf(int64_t b) const {
    return p.counts.defined() ? elementAt(p.counts, b) : tokens();
  }

  Status check() const {
    for (int64_t b = 0; b < p.batch(); ++b) {
      const int64_t length = lengthOf(b), count = countOf(b);
      if (count < 0 || count > tokens()) {
        return outside("counts", count, b, "Counts must be 0 to " + std::to_string(tokens()));
      }
      if (length < 0 || length + count > p.capacity()) {
        return Status(Code::failed, "lengths",
                      std::to_string(count) + " new tokens do not fit behind the " +
                          std::to_string(length) + " of batch entry " + std::to_string(b) +
                          " in a capacity of " + std::to_string(p.capacity()),
                      "Make a larger cache, or truncate it first");
      }
      LONGSPAN_RETURN_IF_ERROR(pages.check(b, {length, length + count}));
    }
    return {};
  }

  // f(run, row) for the rows of the cache that take the new tokens of entry b from `row` on.
  template <class F>
  void forEachRun(int64_t b, F&& f) const {
    pages.forEachRun(b, lengthOf(b), countOf(b), f);
  }
  void copy(const TensorView& from, const TensorView& to, int64_t b, int64_t h) const {
    forEachRun(b, [&](const PageTable::Run& run, int64_t row) {
      copyRows(from, b, row, to, run.entry, run.row, h, run.count);
    });
  }
};

template <class A>
struct Rotation {
  const Append& append;
  int64_t half, channels;
  double* turns;
  A* table;    // (entry, new token, [cosine, sine], half)
  A* scratch;  // two rows per thread

  Rotation(const Append& a, Context& context)
      : append(a),
        half(a.p.turns.dim / 2),
        channels(a.p.keys.shape[3]),
        turns(reinterpret_cast<double*>(context.workspace.data)),
        table(reinterpret_cast<A*>(turns + half)),
        scratch(table + 2 * half * a.p.batch() * a.tokens()) {
    frequencyTurns(a.p.turns, turns);
    context.pool.forRange(
        a.p.batch() * a.tokens(), std::max<int64_t>(1, 4096 / std::max<int64_t>(half, 1)),
        [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t b = i / a.tokens(), t = i % a.tokens();
            A* to = table + 2 * half * i;
            angles(static_cast<double>(a.lengthOf(b) + t), turns, half, A(1), to, to + half);
          }
        });
  }

  // Rows [row, row + rows) of head h of entry b, to the same head of another entry.
  void rotate(const TensorView& from, int64_t b, int64_t row, const TensorView& to, int64_t toB,
              int64_t toRow, int64_t h, int64_t rows, int thread) const {
    A* own = scratch + 2 * channels * thread;
    for (int64_t r = 0; r < rows; ++r) {
      const A* angle = table + 2 * half * (b * append.tokens() + row + r);
      const A* x = rowOf(from, b * from.stride[0] + h * from.stride[1] + (row + r) * from.stride[2],
                         from.stride[3], channels, own);
      A* y = own + channels;
      rotateRow(x, y, angle, angle + half, half, append.p.turns.interleaved);
      std::copy(x + 2 * half, x + channels, y + 2 * half);
      storeRow(to, toB * to.stride[0] + h * to.stride[1] + (toRow + r) * to.stride[2], to.stride[3],
               channels, y);
    }
  }
};

template <class A>
void runRotated(const Append& append, Context& context) {
  const ops::KvCacheAppend& p = append.p;
  const Rotation<A> rotation(append, context);
  const int64_t heads = p.keys.shape[1], queryHeads = p.q.defined() ? p.q.shape[1] : 0;
  context.pool.forEach(p.batch() * (heads + queryHeads), [&](int64_t item, int thread) {
    const int64_t b = item / (heads + queryHeads), h = item % (heads + queryHeads);
    if (h >= heads) {
      rotation.rotate(p.q, b, 0, p.rotated, b, 0, h - heads, append.tokens(), thread);
      return;
    }
    append.forEachRun(b, [&](const PageTable::Run& run, int64_t row) {
      rotation.rotate(p.k, b, row, p.keys, run.entry, run.row, h, run.count, thread);
    });
    append.copy(p.v, p.values, b, h);
  });
}

}  // namespace

Status kvCacheAppend(const ops::KvCacheAppend& p, Context& context) {
  const Append append(p);
  LONGSPAN_RETURN_IF_ERROR(append.check());  // nothing is written unless everything fits
  const int64_t heads = p.keys.shape[1];
  if (p.rotates) {
    withAccumulator(p.keys.dtype, [&](auto zero) { runRotated<decltype(zero)>(append, context); });
  } else {
    context.pool.forEach(p.batch() * heads, [&](int64_t item, int) {
      append.copy(p.k, p.keys, item / heads, item % heads);
      append.copy(p.v, p.values, item / heads, item % heads);
    });
  }
  for (int64_t b = 0; b < p.batch(); ++b) {
    elementAt(p.lengths, b) += static_cast<int32_t>(append.countOf(b));
  }
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
