// Block-sparse masks as kernels look them up (problem.h has the format).
#pragma once

#include <algorithm>
#include <span>
#include <string>

#include "cpp/ops/attention/problem.h"

namespace longspan::cpu {

// What a block is, other than partial: then it is the number of its bits.
inline constexpr int32_t kWholeBlock = -1, kHiddenBlock = -2;

class BlockMask {
 public:
  struct Entry {
    int32_t column, slot;
  };

  explicit BlockMask(const ops::AttentionProblem& p) : block(p.maskBlock) {
    if (!p.maskRows.defined()) return;
    rows_ = p.maskRows.data<int32_t>();
    entries_ = reinterpret_cast<const Entry*>(p.maskRowBlocks.data<int32_t>());
    if (p.maskBits.defined()) bits_ = p.maskBits.data<uint8_t>();
    count_ = p.maskRows.shape[2];
    entryStep_ = p.maskRows.shape[0] == 1 ? 0 : p.maskRows.shape[1] * count_;
    headStep_ = p.maskRows.shape[1] == 1 ? 0 : count_;
  }

  const int64_t block;  // queries and keys of a block
  bool defined() const { return rows_ != nullptr; }

  // The blocks that row `row` of blocks sees.
  std::span<const Entry> row(int64_t entry, int64_t head, int64_t row) const {
    const int32_t* at = rows_ + entry * entryStep_ + head * headStep_ + row;
    return {entries_ + at[0], entries_ + at[1]};
  }
  int32_t find(int64_t entry, int64_t head, int64_t r, int64_t column) const {
    const auto list = row(entry, head, r);
    const auto at = std::lower_bound(list.begin(), list.end(), column,
                                     [](const Entry& e, int64_t c) { return e.column < c; });
    return at == list.end() || at->column != column ? kHiddenBlock : at->slot;
  }
  // The bits of row `query` % block of a partial block.
  const uint8_t* bits(int32_t slot, int64_t query) const {
    return bits_ + (slot * block + query % block) * block / 8;
  }
  bool sees(int64_t entry, int64_t head, int64_t query, int64_t key) const {
    const int32_t slot = find(entry, head, query / block, key / block);
    if (slot < 0) return slot == kWholeBlock;
    const int64_t c = key % block;
    return (bits(slot, query)[c / 8] >> (c % 8) & 1) != 0;
  }

  // Whether the lists lie within their tensors.
  static Status check(const ops::AttentionProblem& p) {
    if (!p.maskRows.defined()) return {};
    const int64_t slots = p.maskBits.defined() ? p.maskBits.shape[0] : 0;
    const auto side = [&](const char* field, const TensorView& starts, const TensorView& list,
                          int64_t tokens) -> Status {
      const int32_t *at = starts.data<int32_t>(), *entry = list.data<int32_t>();
      const int64_t most = list.shape[0], others = (tokens + p.maskBlock - 1) / p.maskBlock;
      bool sound = true;
      for (int64_t i = 0; i < starts.numel(); ++i) {
        const bool first = i % starts.shape[2] == 0;
        sound = sound && at[i] >= 0 && at[i] <= most && (first || at[i] >= at[i - 1]);
      }
      for (int64_t i = 0; i < most; ++i) {
        sound = sound && entry[2 * i] >= 0 && entry[2 * i] < others &&
                entry[2 * i + 1] >= kWholeBlock && entry[2 * i + 1] < slots;
      }
      if (sound) return {};
      return Status(Code::failed, field, "lists that point outside their tensors",
                    "Use the tensors of a BlockMask as they are");
    };
    LONGSPAN_RETURN_IF_ERROR(side("maskRows", p.maskRows, p.maskRowBlocks, p.keys()));
    return side("maskColumns", p.maskColumns, p.maskColumnBlocks, p.queries());
  }

 private:
  const int32_t* rows_ = nullptr;
  const Entry* entries_ = nullptr;
  const uint8_t* bits_ = nullptr;
  int64_t count_ = 0, entryStep_ = 0, headStep_ = 0;
};

}  // namespace longspan::cpu
