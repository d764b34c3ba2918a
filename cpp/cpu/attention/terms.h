// What a call adds to scores and multiplies weights with, pair by pair: bias, ALiBi, segments,
// dropout. Each is written once, as a tile that kernels read beside the products:
//
//   added   [key][lane]  base 2; -inf where segments differ
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

  explicit Terms(const ops::AttentionProblem& p) : p_(p), drops_(p.dropout > 0) {
    if (!drops_) return;
    state_ = loadPhilox(p.dropoutState.data<int32_t>());
    threshold_ = ops::probabilityThreshold(p.dropout);
    grown_ = static_cast<float>(1 / (1 - p.dropout));
  }

  // Floats of scratch for a tile of `width` lanes; none where a call has no terms.
  static int64_t floats(const ops::AttentionProblem& p, int64_t width, int64_t keys) {
    return p.hasTerms() ? 3 * width * keys : 0;
  }

  // Whether segments hide all the pairs of a tile, and whether they hide any.
  struct Segments {
    bool disjoint = false, mixed = false;
  };
  Segments segments(const Pairs& t) const {
    if (!p_.querySegments.defined()) return {};
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
    return {high < least || most < low, low != high || least != most};
  }

  // scratch: floats(width, t.padded) of them.
  TermTiles tiles(const Pairs& t, Segments segments, int64_t width, float* scratch) const {
    TermTiles result;
    if (p_.bias.defined() || p_.alibiSlopes.defined() || segments.mixed) {
      for (int64_t i = 0; i < t.rows; ++i) addedRow(t, segments, t.row + i, scratch + i * t.padded);
      result.added = {spread(t, scratch, width, scratch + width * t.padded), width};
    }
    if (drops_) {
      for (int64_t i = 0; i < t.rows; ++i) keptRow(t, t.row + i, scratch + i * t.padded);
      result.kept = {spread(t, scratch, width, scratch + 2 * width * t.padded), width};
    }
    return result;
  }

 private:
  void addedRow(const Pairs& t, Segments segments, int64_t i, float* row) const {
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
    if (segments.mixed) {
      const TensorView &queries = p_.querySegments, &keys = p_.keySegments;
      const int32_t own = queries.data<int32_t>()[b * queries.stride[0] +
                                                  (t.band->queryBegin + i) * queries.stride[1]];
      const int32_t* other =
          keys.data<int32_t>() + b * keys.stride[0] + (t.band->keyBegin + t.key) * keys.stride[1];
      for (int64_t j = 0; j < t.keys; ++j) {
        if (other[j * keys.stride[1]] != own) row[j] = -std::numeric_limits<float>::infinity();
      }
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

  // Rows by queries to [key][lane]; lanes without a query hold 0.
  float* spread(const Pairs& t, const float* rows, int64_t width, float* out) const {
    transposeBlock(rows, t.padded, t.rows, t.padded, out, width);
    const int64_t filled = roundUp(t.rows, kLanes);
    for (int64_t j = 0; j < t.padded && filled < width; ++j) {
      std::fill(out + j * width + filled, out + (j + 1) * width, 0.0f);
    }
    return out;
  }

  const ops::AttentionProblem& p_;
  bool drops_;
  PhiloxState state_{};
  uint32_t threshold_ = 0;
  float grown_ = 1;
};

}  // namespace longspan::cpu::LONGSPAN_LEVEL
