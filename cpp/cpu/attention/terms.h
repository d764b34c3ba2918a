// What a call adds to scores and multiplies weights with, pair by pair: bias, ALiBi, segments,
// block masks, dropout. Each is written once, as a tile that kernels read beside the products:
//
//   added   [key][lane]  base 2; -inf where segments differ or a block mask hides
//   kept    [key][lane]  0 where dropout takes a weight, else 1 / (1 - p)
//
// Lanes are queries, as in the tiles of scores. Cost per pair: a write and a read of four bytes per
// tile, small beside 2 (D + Dv) FLOPs.
#pragma once

#include <array>
#include <limits>

#include "cpp/cpu/attention/band.h"
#include "cpp/cpu/attention/head_rows.h"
#include "cpp/cpu/attention/score.h"
#include "cpp/cpu/philox_words.h"
#include "cpp/ops/dense/random.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

inline constexpr int64_t kMostLanes = 64;  // of a panel
alignas(64) inline constexpr std::array<float, kMostLanes> kZeros{};
alignas(64) inline constexpr std::array<float, kMostLanes> kOnes = [] {
  std::array<float, kMostLanes> x{};
  for (float& one : x) one = 1.0f;
  return x;
}();

// Rows of one float per lane; one row that stands for all where `step` is 0.
struct TermTile {
  const float* at;
  int64_t step;
};
struct TermTiles {
  TermTile added{kZeros.data(), 0}, kept{kOnes.data(), 0};
};

// A tile of pairs: queries [row, row + rows) of a sequence with keys [key, key + keys), which count
// as `padded` ones.
struct Pairs {
  const Band* band;
  int64_t head;
  int64_t row, rows, key, keys, padded;
};

class Terms {
 public:
  static constexpr int64_t kMostKeys = 128;  // of a tile

  explicit Terms(const ops::AttentionProblem& p) : p_(p), mask_(p), drops_(p.dropout > 0) {
    if (!drops_) return;
    state_ = loadPhilox(p.dropoutState.data<int32_t>());
    threshold_ = ops::probabilityThreshold(p.dropout);
    grown_ = static_cast<float>(1 / (1 - p.dropout));
  }

  // Floats of scratch for a tile of `width` lanes; none where a call has no terms.
  static int64_t floats(const ops::AttentionProblem& p, int64_t width, int64_t keys) {
    return p.hasTerms() ? 3 * width * keys : 0;
  }

  // Which pairs of a tile segments and block masks hide: all, or some.
  struct Seen {
    bool none = false;
    bool segmentsMix = false, maskMixes = false;
  };
  Seen seen(const Pairs& t) const {
    Seen result;
    if (p_.querySegments.defined()) addSegments(t, result);
    if (mask_.defined() && !result.none) addMask(t, result);
    return result;
  }

  // scratch: floats(width, t.padded) of them.
  TermTiles tiles(const Pairs& t, Seen seen, int64_t width, float* scratch) const {
    TermTiles result;
    if (p_.bias.defined() || p_.alibiSlopes.defined() || seen.segmentsMix || seen.maskMixes) {
      addedRows(t, seen, scratch);
      result.added = spread(t.rows, t.padded, scratch, width, scratch + width * t.padded);
    }
    if (drops_) {
      for (int64_t i = 0; i < t.rows; ++i) keptRow(t, t.row + i, scratch + i * t.padded);
      result.kept = spread(t.rows, t.padded, scratch, width, scratch + 2 * width * t.padded);
    }
    return result;
  }

  // What is added to the pairs of a tile, query by query, t.padded floats each.
  void addedRows(const Pairs& t, Seen seen, float* out) const {
    for (int64_t i = 0; i < t.rows; ++i) addedRow(t, seen, t.row + i, out + i * t.padded);
  }

  // Such rows as [key][lane]; lanes without a query hold 0.
  static TermTile spread(int64_t rows, int64_t padded, const float* from, int64_t width,
                         float* out) {
    transposeBlock(from, padded, rows, padded, out, width);
    const int64_t filled = roundUp(rows, kLanes);
    for (int64_t j = 0; j < padded && filled < width; ++j) {
      std::fill(out + j * width + filled, out + (j + 1) * width, 0.0f);
    }
    return {out, width};
  }

 private:
  void addSegments(const Pairs& t, Seen& result) const {
    const auto ends = [](const TensorView& view, int64_t b, int64_t first, int64_t count) {
      const int32_t* at = view.data<int32_t>() + b * view.stride[0] + first * view.stride[1];
      int32_t low = *at, high = *at;
      for (int64_t i = 1; i < count; ++i) {
        low = std::min(low, at[i * view.stride[1]]);
        high = std::max(high, at[i * view.stride[1]]);
      }
      return std::pair(low, high);
    };
    const auto [low, high] =
        ends(p_.querySegments, t.band->entry, t.band->queryBegin + t.row, t.rows);
    const auto [least, most] =
        ends(p_.keySegments, t.band->entry, t.band->keyBegin + t.key, t.keys);
    result.none = high < least || most < low;
    result.segmentsMix = low != high || least != most;
  }

  void addMask(const Pairs& t, Seen& result) const {
    bool hidden = true, whole = true;
    for (int64_t r = t.row / mask_.block; r <= (t.row + t.rows - 1) / mask_.block; ++r) {
      for (int64_t c = t.key / mask_.block; c <= (t.key + t.keys - 1) / mask_.block; ++c) {
        const int32_t slot = mask_.find(t.band->entry, t.head, r, c);
        hidden = hidden && slot == kHiddenBlock;
        whole = whole && slot == kWholeBlock;
      }
    }
    result.none = hidden;
    result.maskMixes = !whole;
  }

  void addedRow(const Pairs& t, Seen seen, int64_t i, float* row) const {
    const int64_t b = t.band->entry;
    const float log2e = static_cast<float>(kLog2E);
    std::fill_n(row, t.padded, 0.0f);
    if (p_.bias.defined()) {
      const TensorView& bias = p_.bias;
      const int64_t at = b * bias.stride[0] + t.head * bias.stride[1] + i * bias.stride[2] +
                         t.key * bias.stride[3];
      dispatchFloating(bias.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        if constexpr (!std::is_same_v<T, double>) {
          const T* from = bias.data<T>() + at;
          for (int64_t j = 0; j < t.keys; ++j) row[j] = log2e * load(from[j * bias.stride[3]]);
        }
      });
    }
    if (p_.alibiSlopes.defined()) {
      const TensorView& slopes = p_.alibiSlopes;
      const float slope =
          log2e * slopes.data<float>()[b * slopes.stride[0] + t.head * slopes.stride[1]];
      const auto from = static_cast<int32_t>(i + t.band->offset - t.key);
      for (int32_t j = 0; j < t.keys; ++j) row[j] -= slope * static_cast<float>(std::abs(from - j));
    }
    if (seen.segmentsMix) {
      const TensorView &queries = p_.querySegments, &keys = p_.keySegments;
      const int32_t own = queries.data<int32_t>()[b * queries.stride[0] +
                                                  (t.band->queryBegin + i) * queries.stride[1]];
      const int32_t* other =
          keys.data<int32_t>() + b * keys.stride[0] + (t.band->keyBegin + t.key) * keys.stride[1];
      for (int64_t j = 0; j < t.keys; ++j) {
        if (other[j * keys.stride[1]] != own) row[j] = -std::numeric_limits<float>::infinity();
      }
    }
    if (seen.maskMixes) hideMasked(t, i, row);
  }

  void hideMasked(const Pairs& t, int64_t i, float* row) const {
    constexpr float kNone = -std::numeric_limits<float>::infinity();
    for (int64_t j = 0; j < t.keys;) {
      const int64_t key = t.key + j, column = key / mask_.block, first = key % mask_.block;
      const int64_t end = std::min(t.keys, j + mask_.block - first);
      const int32_t slot = mask_.find(t.band->entry, t.head, i / mask_.block, column);
      if (slot == kHiddenBlock) std::fill(row + j, row + end, kNone);
      if (slot >= 0) {
        const uint8_t* bits = mask_.bits(slot, i);
        for (int64_t c = first, k = j; k < end; ++c, ++k) {
          if ((bits[c / 8] >> (c % 8) & 1) == 0) row[k] = kNone;
        }
      }
      j = end;
    }
  }

  void keptRow(const Pairs& t, int64_t i, float* row) const {
    const auto query = static_cast<uint64_t>(
        (t.band->entry * p_.queryHeads() + t.head) * p_.queries() + t.band->queryBegin + i);
    const uint64_t first =
        query * static_cast<uint64_t>((p_.keys() + 3) / 4) + static_cast<uint64_t>(t.key / 4);
    uint32_t words[kMostKeys + kPhiloxWords];
    const int64_t shift = t.key % 4;
    for (int64_t done = 0; done < t.keys + shift; done += kPhiloxWords) {
      philoxWords(state_, first + static_cast<uint64_t>(done / 4), words + done);
    }
    for (int64_t j = 0; j < t.keys; ++j) {
      row[j] = words[j + shift] >> 8 < threshold_ ? 0.0f : grown_;
    }
    std::fill(row + t.keys, row + t.padded, 0.0f);
  }

  const ops::AttentionProblem& p_;
  BlockMask mask_;
  bool drops_;
  PhiloxState state_{};
  uint32_t threshold_ = 0;
  float grown_ = 1;
};

}  // namespace longspan::cpu::LONGSPAN_LEVEL
