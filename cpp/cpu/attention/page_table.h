// Where the keys of a cache lie: in the rows of their own batch entry, or in pages (problem.h).
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "cpp/cpu/attention/band.h"

namespace longspan::cpu {

class PageTable {
 public:
  // rows: of a page.
  PageTable(const TensorView& table, int64_t pages, int64_t rows) : pages_(pages), rows_(rows) {
    if (!table.defined()) return;
    table_ = table.data<int32_t>();
    entryStep_ = table.stride[0], pageStep_ = table.stride[1];
  }
  explicit PageTable(const ops::AttentionProblem& p)
      : PageTable(p.pageTable, p.k.shape[0], p.k.shape[p.tokenAxis()]) {}

  bool defined() const { return table_ != nullptr; }

  // Rows that lie together: [row, row + count) of batch entry, or page, `entry`; -1 for a page that
  // does not exist.
  struct Run {
    int64_t entry, row, count;
  };
  // From key `key` of entry b on, `count` keys or fewer.
  Run run(int64_t b, int64_t key, int64_t count) const {
    if (!defined()) return {b, key, count};
    return inPage(b, key / rows_, key % rows_, count);
  }
  // Calls f(run, keys before it) for the runs of keys [key, key + count).
  template <class F>
  void forEachRun(int64_t b, int64_t key, int64_t count, F&& f) const {
    if (count <= 0) return;
    if (!defined()) return f(Run{b, key, count}, int64_t{0});
    int64_t i = key / rows_, row = key % rows_;
    for (int64_t done = 0; done < count; ++i, row = 0) {
      const Run now = inPage(b, i, row, count - done);
      f(now, done);
      done += now.count;
    }
  }

  // Whether the pages that hold these keys exist.
  Status check(int64_t b, Range keys) const {
    if (!defined() || keys.empty()) return {};
    for (int64_t i = keys.begin / rows_; i <= (keys.end - 1) / rows_; ++i) {
      if (page(b, i) >= 0 && page(b, i) < pages_) continue;
      return Status(Code::failed, "pageTable",
                    std::to_string(page(b, i)) + " as page " + std::to_string(i) +
                        " of batch entry " + std::to_string(b),
                    "Pages must be 0 to " + std::to_string(pages_ - 1));
    }
    return {};
  }

 private:
  Run inPage(int64_t b, int64_t i, int64_t row, int64_t count) const {
    const int64_t at = page(b, i);
    return {at >= 0 && at < pages_ ? at : -1, row, std::min(count, rows_ - row)};
  }
  int64_t page(int64_t b, int64_t i) const { return table_[b * entryStep_ + i * pageStep_]; }

  const int32_t* table_ = nullptr;
  int64_t entryStep_ = 0, pageStep_ = 0, pages_, rows_;
};

}  // namespace longspan::cpu
