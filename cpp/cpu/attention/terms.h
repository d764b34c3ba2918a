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

#include "cpp/cpu/attention/band.h"
#include "cpp/cpu/attention/head_rows.h"
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
  bool none() const { return added.at == kZeros.data() && kept.at == kOnes.data(); }
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
  Seen seen(const Pairs& t) const;

  // scratch: floats(width, t.padded) of them.
  TermTiles tiles(const Pairs& t, Seen seen, int64_t width, float* scratch) const;

  // What is added to the pairs of a tile, query by query, t.padded floats each.
  void addedRows(const Pairs& t, Seen seen, float* out) const;

  // Such rows as [key][lane]; lanes without a query hold 0.
  static TermTile spread(int64_t rows, int64_t padded, const float* from, int64_t width,
                         float* out) {
    transposeRows(from, padded, rows, padded, out, width, width);
    return {out, width};
  }

 private:
  void addSegments(const Pairs& t, Seen& result) const;
  void addMask(const Pairs& t, Seen& result) const;
  void addedRow(const Pairs& t, Seen seen, int64_t i, float* row) const;
  void hideMasked(const Pairs& t, int64_t i, float* row) const;
  void keptRow(const Pairs& t, int64_t i, float* row) const;

  const ops::AttentionProblem& p_;
  BlockMask mask_;
  bool drops_;
  PhiloxState state_{};
  uint32_t threshold_ = 0;
  float grown_ = 1;
};

}  // namespace longspan::cpu::LONGSPAN_LEVEL
