// Rows that will be read far apart in memory: fetched into the second-level cache a few at a time,
// behind the products before them.
#pragma once

#include <algorithm>

#include "cpp/core/tensor_view.h"
#include "cpp/cpu/attention/page_table.h"
#include "cpp/cpu/simd.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

class RowsAhead {
 public:
  RowsAhead() = default;
  // `each` rows of head h of both views at a time; `runs` must outlive this.
  RowsAhead(const TensorView& k, const TensorView& v, int64_t h, const PageTable::Run* runs,
            int64_t count, int64_t each)
      : runs_(runs), runCount_(count), each_(each) {
    const TensorView* const views[] = {&k, &v};
    for (int i = 0; i < 2; ++i) {
      const TensorView& t = *views[i];
      const auto size = static_cast<int64_t>(sizeOf(t.dtype));
      rows_[i] = {t.base + (t.offset + h * t.stride[1]) * size, t.stride[0] * size,
                  t.stride[2] * size, t.stride[3] == 1 ? t.shape[3] * size : 0};
    }
  }

  // Rows at positions[0 .. count), which must outlive this, of up to kMostLists matrices.
  void add(const void* first, int64_t rowBytes, int64_t bytes, const int32_t* positions,
           int64_t count) {
    lists_[listCount_++] = {static_cast<const std::byte*>(first), rowBytes, bytes, positions,
                            count};
    longest_ = std::max(longest_, count);
  }
  // Of head h of batch entry b.
  void add(const TensorView& t, int64_t b, int64_t h, const int32_t* positions, int64_t count) {
    if (t.stride[3] != 1) return;
    const auto size = static_cast<int64_t>(sizeOf(t.dtype));
    add(t.base + (t.offset + b * t.stride[0] + h * t.stride[1]) * size, t.stride[2] * size,
        t.shape[3] * size, positions, count);
  }
  // All of what was added, in so many calls of fetch().
  void spread(int64_t calls) { each_ = calls > 0 ? (longest_ + calls - 1) / calls : 0; }

  LONGSPAN_INLINE void fetch() {
    for (int64_t n = 0; n < each_ && run_ < runCount_; ++n) {
      const PageTable::Run& run = runs_[run_];
      for (const Rows& rows : rows_) {
        fetchRow(rows.first + run.entry * rows.entry + (run.row + row_) * rows.row, rows.bytes);
      }
      if (++row_ < run.count) continue;
      row_ = 0;
      ++run_;
    }
    for (int64_t n = 0; n < each_ && listed_ < longest_; ++n, ++listed_) {
      for (int i = 0; i < listCount_; ++i) {
        const List& list = lists_[i];
        if (listed_ >= list.count) continue;
        fetchRow(list.first + list.positions[listed_] * list.row, list.bytes);
      }
    }
  }

 private:
  static constexpr int kMostLists = 10;
  struct Rows {
    const std::byte* first;
    int64_t entry, row, bytes;
  };
  struct List {
    const std::byte* first;
    int64_t row, bytes;
    const int32_t* positions;
    int64_t count;
  };
  LONGSPAN_INLINE static void fetchRow(const std::byte* row, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
  }

  const PageTable::Run* runs_ = nullptr;
  Rows rows_[2] = {};
  List lists_[kMostLists];
  int64_t run_ = 0, row_ = 0, runCount_ = 0, listed_ = 0, longest_ = 0, each_ = 0;
  int listCount_ = 0;
};

}  // namespace longspan::cpu::LONGSPAN_LEVEL
