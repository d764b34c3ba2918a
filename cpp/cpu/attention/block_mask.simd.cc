// Block masks from a predicate: the stack machine runs over one row of a block at a time, its
// values vectors of all the columns.
//
// Cost: a few vector instructions per step and element. Memory: the states, or the bits asked for.
#include "cpp/ops/attention/block_mask.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int kMostColumns = 128;

struct Place {
  int32_t batch, head, row, column;  // of the block
};

class Machine {
  using Step = ops::MaskStep;

 public:
  explicit Machine(const ops::BlockMaskEvaluate& p) : p_(p) {}

  // Row `query` of a block for keys from `key` on: 1 or 0 for each of `columns`.
  const int32_t* row(const Place& at, int64_t query, int64_t key, int columns) {
    int top = 0;
    const auto fill = [&](int32_t x) { std::fill_n(stack_[top++], columns, x); };
    const int32_t* steps = p_.program.data<int32_t>();
    for (int64_t s = 0; s < p_.program.shape[0]; ++s) {
      switch (static_cast<Step>(steps[2 * s])) {
        case Step::constant:
          fill(steps[2 * s + 1]);
          break;
        case Step::query:
          fill(static_cast<int32_t>(query));
          break;
        case Step::key:
          for (int c = 0; c < columns; ++c) stack_[top][c] = static_cast<int32_t>(key) + c;
          ++top;
          break;
        case Step::batch:
          fill(at.batch);
          break;
        case Step::head:
          fill(at.head);
          break;
        case Step::add:
          apply<Step::add>(top, columns);
          break;
        case Step::subtract:
          apply<Step::subtract>(top, columns);
          break;
        case Step::multiply:
          apply<Step::multiply>(top, columns);
          break;
        case Step::divide:
          apply<Step::divide>(top, columns);
          break;
        case Step::remainder:
          apply<Step::remainder>(top, columns);
          break;
        case Step::minimum:
          apply<Step::minimum>(top, columns);
          break;
        case Step::maximum:
          apply<Step::maximum>(top, columns);
          break;
        case Step::absolute:
          apply<Step::absolute>(top, columns);
          break;
        case Step::less:
          apply<Step::less>(top, columns);
          break;
        case Step::lessEqual:
          apply<Step::lessEqual>(top, columns);
          break;
        case Step::equal:
          apply<Step::equal>(top, columns);
          break;
        case Step::both:
          apply<Step::both>(top, columns);
          break;
        case Step::either:
          apply<Step::either>(top, columns);
          break;
        case Step::negate:
          apply<Step::negate>(top, columns);
          break;
        case Step::count:
          break;
      }
    }
    return stack_[0];
  }

 private:
  // A constant step, so that its loop becomes vectors.
  template <Step kStep>
  void apply(int& top, int columns) {
    top -= ops::maskOperands(kStep) - 1;
    int32_t* const a = stack_[top - 1];
    const int32_t* const b = stack_[top];  // read where the step has two operands
    for (int c = 0; c < columns; ++c) a[c] = ops::maskValue(kStep, a[c], b[c]);
  }

  const ops::BlockMaskEvaluate& p_;
  alignas(64) int32_t stack_[ops::kMaskDepth + 1][kMostColumns];
};

// Calls f(row of the block, its columns, how many) for the rows that exist.
template <class F>
void forEachRow(const ops::BlockMaskEvaluate& p, Machine& machine, const Place& at, F&& f) {
  const int64_t query = at.row * p.block, key = at.column * p.block;
  const auto columns = static_cast<int>(std::min(p.block, p.keys - key));
  const int64_t rows = std::min(p.block, p.queries - query);
  for (int64_t r = 0; r < rows; ++r) f(r, machine.row(at, query + r, key, columns), columns);
}

ops::MaskBlock stateOf(const ops::BlockMaskEvaluate& p, Machine& machine, const Place& at) {
  bool none = true, all = true;
  forEachRow(p, machine, at, [&](int64_t, const int32_t* row, int columns) {
    int32_t any = 0, every = 1;
    for (int c = 0; c < columns; ++c) {
      const int32_t one = row[c] != 0;
      any |= one;
      every &= one;
    }
    none = none && any == 0;
    all = all && every == 1;
  });
  return none ? ops::MaskBlock::none : all ? ops::MaskBlock::full : ops::MaskBlock::partial;
}

}  // namespace

Status blockMaskEvaluate(const ops::BlockMaskEvaluate& p, Context& context) {
  if (!ops::isSoundMask(p.program.data<int32_t>(), p.program.shape[0])) {
    return Status(Code::failed, "program", "steps that do not fit together",
                  "Build predicates with the methods of BlockMask");
  }
  const int64_t rows = p.rows(), columns = p.columns();
  if (p.states.defined()) {
    context.pool.forEach(p.batch * p.heads * rows, [&](int64_t item, int) {
      Machine machine(p);
      Place at{static_cast<int32_t>(item / rows / p.heads),
               static_cast<int32_t>(item / rows % p.heads), static_cast<int32_t>(item % rows), 0};
      for (; at.column < columns; ++at.column) {
        p.states.data<uint8_t>()[item * columns + at.column] =
            static_cast<uint8_t>(stateOf(p, machine, at));
      }
    });
    return {};
  }
  std::atomic<bool> outside = false;
  const int64_t bytes = p.block * p.block / 8;
  context.pool.forEach(p.blocks.shape[0], [&](int64_t item, int) {
    Machine machine(p);
    const int32_t* place = p.blocks.data<int32_t>() + 4 * item;
    uint8_t* const bits = p.bits.data<uint8_t>() + item * bytes;
    std::memset(bits, 0, static_cast<size_t>(bytes));
    const Place at{place[0], place[1], place[2], place[3]};
    if (at.batch < 0 || at.batch >= p.batch || at.head < 0 || at.head >= p.heads || at.row < 0 ||
        at.row >= rows || at.column < 0 || at.column >= columns) {
      outside = true;
      return;
    }
    forEachRow(p, machine, at, [&](int64_t r, const int32_t* row, int count) {
      uint8_t* const out = bits + r * p.block / 8;
      for (int c = 0; c < count; ++c) out[c / 8] |= static_cast<uint8_t>((row[c] != 0) << (c % 8));
    });
  });
  if (!outside) return {};
  return Status(Code::failed, "blocks", "a block outside the mask",
                "Use indices from 0 to below the numbers of entries, heads, rows and columns");
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
