// Tiles of sorted attention: lanes are the queries of one panel, rows are keys, both fetched
// through an order. Products, softmax and gradients are those of the exact family
// (cpp/cpu/attention).
#pragma once

#include "cpp/cpu/attention/head_rows.h"
#include "cpp/cpu/attention/rows_ahead.h"
#include "cpp/cpu/attention/score.h"
#include "cpp/cpu/attention/terms.h"
#include "cpp/cpu/sparse/sorted_entries.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

inline constexpr int kSortedVectors = kTileVectors;
inline constexpr int64_t kSortedWidth = kSortedVectors * kLanes;
inline constexpr int64_t kSortedKeys = 64;  // of a tile
inline constexpr int64_t kRowPadding = 2 * kTileRows;

// A self pair that is a last resort has no product.
inline GeneralScore sortedScore(const ops::SortedAttentionProblem& p) {
  GeneralScore score(p.scale);
  if (p.self == ops::SortedSelf::lastResort) {
    score.resort = static_cast<float>(-p.selfPenalty * kLog2E / 2);
  }
  return score;
}

// Consecutive entries of one round, all of one group but for pattern `global`.
struct SortedLanes {
  int64_t rows = 0;
  int64_t round = 0;
  const int32_t* order = nullptr;              // their positions
  int32_t position[kSortedWidth];              // the same; -1 in lanes without a query
  int32_t lo[kSortedWidth], hi[kSortedWidth];  // places of the keys that each sees
  int64_t first = 0, end = 0;                  // of all lanes
  int64_t fullBegin = 0, fullEnd = 0;          // places that every lane sees
  int32_t group[kSortedWidth];                 // pattern `global`
  int32_t *low = nullptr, *span = nullptr;     // [round][lane], to count duplicates

  // Vectors that hold a query.
  int vectors() const { return static_cast<int>((rows + kLanes - 1) / kLanes); }

  void start(const ops::SortedAttentionProblem& p, const SortedPlaces& places,
             const int32_t* positions, int64_t count) {
    rows = count;
    order = positions;
    for (int64_t i = 0; i < kSortedWidth; ++i) position[i] = i < rows ? positions[i] : -1;
    if (!p.corrects()) return;
    const int64_t rounds = p.rounds();
    for (int64_t i = 0; i < kSortedWidth; ++i) {
      for (int64_t r = 0; r < rounds; ++r) {
        low[r * kSortedWidth + i] = i < rows ? places.low[position[i] * rounds + r] : 0;
        span[r * kSortedWidth + i] = i < rows ? places.span[position[i] * rounds + r] : 0;
      }
    }
  }
  // intervals: low and high place of each query.
  void bound(const int32_t* lows, const int32_t* highs) {
    first = kUnbounded, end = 0, fullBegin = 0, fullEnd = rows == kSortedWidth ? kUnbounded : 0;
    for (int64_t i = 0; i < kSortedWidth; ++i) {
      lo[i] = i < rows ? lows[i] : 0;
      hi[i] = i < rows ? highs[i] : 0;
      if (i >= rows) continue;
      fullBegin = std::max<int64_t>(fullBegin, lo[i]);
      fullEnd = std::min<int64_t>(fullEnd, hi[i]);
      if (lo[i] >= hi[i]) continue;
      first = std::min<int64_t>(first, lo[i]);
      end = std::max<int64_t>(end, hi[i]);
    }
  }
};

// Keys of a tile of pattern `global`: entries of any round.
struct GlobalKeys {
  int32_t position[kSortedKeys];  // -1: hidden
  int32_t row[kSortedKeys];       // where to read it
  int32_t round[kSortedKeys], group[kSortedKeys];
};

class SortedTerms {
 public:
  explicit SortedTerms(const ops::SortedAttentionProblem& p) : p_(p) {
    const bool sameRound = p.duplicates == ops::SortedDuplicates::sameRound;
    crosses_ = p.isGlobal() && !sameRound && !p.sameGroup;
    if (p.isGlobal()) {
      chunks_ = static_cast<int32_t>(p.chunks());
      seenChunks_ = static_cast<int32_t>(SeenChunks(p, 0).count);
    }
    const int64_t most = crosses_ ? p.rounds() * p.rounds() : p.rounds();
    minusLog_.resize(static_cast<size_t>(most) + 1, 0.0f);
    for (int64_t n = sameRound ? 0 : 1; n <= most; ++n) {
      minusLog_[static_cast<size_t>(n)] =
          static_cast<float>(-std::log2(static_cast<double>(n) + (sameRound ? 1e-9 : 0)));
    }
    self_ = p.self == ops::SortedSelf::hidden     ? -std::numeric_limits<float>::infinity()
            : p.self == ops::SortedSelf::ordinary ? 0.0f
                                                  : static_cast<float>(-p.selfPenalty * kLog2E);
  }

  // Floats of scratch for a tile.
  static int64_t floats(const ops::SortedAttentionProblem& p) {
    return p.hasTerms() ? kSortedKeys * kSortedWidth : 0;
  }

  // What is added to the pairs of a tile, [key][lane], for keys at `positions`; rows up to
  // `padded`.
  TermTiles tiles(const SortedLanes& lanes, const SortedPlaces& places, const int32_t* positions,
                  int64_t keys, int64_t padded, float* out) const {
    const int vectors = lanes.vectors();
    const bool corrects = p_.corrects();
    const int64_t rounds = p_.rounds();
    for (int64_t j = 0; j < keys; ++j) {
      const vi key = vbroadcast(positions[j]);
      const int32_t* place = places.key + positions[j] * rounds;
      for (int v = 0; v < vectors; ++v) {
        vf added{};
        if (corrects) {
          vi count{};  // minus the number of rounds in which the pair is seen
          for (int64_t r = 0; r < rounds; ++r) {
            const int64_t at = r * kSortedWidth + v * kLanes;
            const vu distance = (vu)(vbroadcast(place[r]) - vload(lanes.low + at));
            count += (vi)(distance < (vu)vload(lanes.span + at));
          }
          for (int64_t n = 2; n <= rounds; ++n) {
            added = vselect(count == static_cast<int32_t>(-n),
                            vbroadcast(minusLog_[static_cast<size_t>(n)]), added);
          }
        }
        added = vselect(vload(lanes.position + v * kLanes) == key, added + self_, added);
        vstore(out + j * kSortedWidth + v * kLanes, added);
      }
    }
    std::memset(out + keys * kSortedWidth, 0,
                static_cast<size_t>((padded - keys) * kSortedWidth) * sizeof(float));
    return tilesOf(out);
  }

  // What is added to a pair that `count` rounds see, to the bit; not for pattern `global`.
  float added(int64_t count, bool isSelf) const {
    const float duplicates = count > 1 ? minusLog_[static_cast<size_t>(count)] : 0.0f;
    return isSelf ? duplicates + self_ : duplicates;
  }
  // What is added to the pair of position i with itself, to the bit.
  float addedToSelf(const SortedPlaces& places, int64_t i) const {
    if (!p_.corrects()) return self_;
    return minusLog_[static_cast<size_t>(countDuplicates(p_, places, i, i))] + self_;
  }
  // How many pairs of a row that sees nothing but itself there are; 0 for other rows. lse: base 2.
  double alone(const SortedPlaces& places, int64_t i, float lse) const {
    if (p_.self != ops::SortedSelf::lastResort || lse > -p_.selfPenalty * kLog2E / 2) return 0;
    if (p_.duplicates == ops::SortedDuplicates::sameRound) return 0;
    if (p_.corrects()) return static_cast<double>(countDuplicates(p_, places, i, i));
    return std::max(1.0, std::round(std::exp2(static_cast<double>(lse) - self_)));
  }

  // The same for pattern `global`, -inf where a pair is hidden.
  TermTiles tiles(const SortedLanes& lanes, const SortedPlaces& places, const GlobalKeys& keys,
                  int64_t count, int64_t padded, float* out) const {
    constexpr float kNone = -std::numeric_limits<float>::infinity();
    const vf none = vbroadcast(kNone);
    const vi open = vbroadcast(p_.causal ? 0 : std::numeric_limits<int32_t>::max());
    const int vectors = lanes.vectors();
    for (int64_t j = 0; j < padded; ++j) {
      float* row = out + j * kSortedWidth;
      const bool exists =
          j < count && keys.position[j] >= 0 && (!p_.sameGroup || keys.round[j] == lanes.round);
      const int seen = exists ? vectors : 0;
      for (int v = 0; v < seen; ++v) {
        const vi own = vload(lanes.position + v * kLanes), key = vbroadcast(keys.position[j]);
        vf added{};
        if (p_.corrects()) {
          alignas(64) int32_t ways[kLanes];
          vstore(ways, countWays(lanes, places, keys.position[j], v));
          for (int i = 0; i < kLanes; ++i) added[i] = minusLog_[static_cast<size_t>(ways[i])];
        }
        added = vselect(own == key, added + self_, added);
        vi hidden = (own < 0) | (key > (own | open));
        if (p_.sameGroup) {
          hidden |= vload(lanes.group + v * kLanes) != vbroadcast(keys.group[j]);
        }
        vstore(row + v * kLanes, vselect(hidden, none, added));
      }
      std::fill_n(row + seen * kLanes, kSortedWidth - seen * kLanes, kNone);
    }
    return tilesOf(out);
  }

 private:
  // N_ij of pattern `global` for vector v of the lanes and key j.
  LONGSPAN_INLINE vi countWays(const SortedLanes& lanes, const SortedPlaces& places, int64_t j,
                               int v) const {
    const int64_t rounds = p_.rounds();
    const int32_t *chunk = places.key + j * rounds, *group = places.keyGroup + j * rounds;
    const vu all = (vu)vbroadcast(chunks_), limit = (vu)vbroadcast(seenChunks_);
    const auto sees = [&](int64_t r, int64_t s) {
      const int64_t at = r * kSortedWidth + v * kLanes;
      const vu distance = (vu)(vbroadcast(chunk[s]) - vload(lanes.low + at));
      vi seen = (vi)((distance < limit) | (distance + all < limit));
      if (p_.sameGroup) seen &= vload(lanes.span + at) == vbroadcast(group[s]);
      return seen;
    };
    vi count{};  // negative
    for (int64_t r = 0; r < rounds; ++r) {
      for (int64_t s = crosses_ ? 0 : r; s < (crosses_ ? rounds : r + 1); ++s) count += sees(r, s);
    }
    return -count;
  }

  static TermTiles tilesOf(const float* out) {
    TermTiles result;
    result.added = {out, kSortedWidth};
    return result;
  }

  const ops::SortedAttentionProblem& p_;
  std::vector<float> minusLog_;  // of 0 to the largest N_ij; base 2
  float self_;
  // Of pattern `global`: whether pairs of entries of two rounds count, how many chunks there are,
  // and how many of them one sees.
  bool crosses_;
  int32_t chunks_ = 0, seenChunks_ = 0;
};

// Calls visit(lanes, begin) for panels of a group's queries with their intervals set; lows and
// highs: scratch for the intervals of an order's places.
template <class F>
void forEachPanel(const ops::SortedAttentionProblem& p, const SortedRound& round, int64_t g,
                  const SortedPlaces& places, SortedLanes& lanes, int32_t* lows, int32_t* highs,
                  F&& visit) {
  const Places own = round.queries(g);
  round.forEachQuery(g, [&](int64_t s, Places seen) {
    lows[s] = static_cast<int32_t>(seen.begin);
    highs[s] = static_cast<int32_t>(seen.end);
  });
  for (int64_t s = own.begin; s < own.end; s += kSortedWidth) {
    lanes.start(p, places, round.queryOrder + s, std::min(kSortedWidth, own.end - s));
    lanes.bound(lows + s, highs + s);
    if (lanes.first < lanes.end) visit();
  }
}

// Calls visit(begin, count) for panels of round r's entries, cut where chunks of pattern `global`
// end, and then tile(keys, count) for the tiles that the panel's chunk sees.
template <class Visit, class Tile, class Done>
void forEachGlobalPanel(const ops::SortedAttentionProblem& p, int64_t b, int64_t h, int64_t r,
                        const SortedPlaces& places, SortedLanes& lanes, Visit&& visit, Tile&& tile,
                        Done&& done) {
  const int64_t entries = p.queryEntries(), all = p.rounds() * entries;
  const int64_t length =
      p.lengths.defined() ? p.lengths.data<int32_t>()[b * p.lengths.stride[0]] : int64_t{1} << 30;
  const SortedRound round(p, b, h, r);
  const int64_t valid = round.queries(p.groups() - 1).end;
  GlobalKeys keys;
  for (int64_t s = 0; s < valid;) {
    const int64_t chunk = (r * entries + s) / p.chunk;
    const int64_t stop = std::min({valid, (chunk + 1) * p.chunk - r * entries, s + kSortedWidth});
    lanes.start(p, places, round.queryOrder + s, stop - s);
    lanes.round = r;
    for (int64_t i = 0; i < lanes.rows; ++i) {
      lanes.group[i] = places.span[lanes.position[i] * p.rounds() + r];
      if (lanes.position[i] >= length) lanes.position[i] = -1;
    }
    visit();
    const SeenChunks seen(p, chunk);
    for (int64_t n = 0; n < seen.count; ++n) {
      const int64_t first = seen.at(n, p.chunks()) * p.chunk;
      const int64_t end = std::min(all, first + p.chunk);
      for (int64_t t = first; t < end; t += kSortedKeys) {
        const int64_t count = std::min(kSortedKeys, end - t);
        for (int64_t j = 0; j < count; ++j) {
          const int64_t other = (t + j) / entries, place = (t + j) % entries;
          const SortedRound keyRound(p, b, h, other);
          const bool listed = place < keyRound.keys(p.groups() - 1).end;
          const int32_t position = listed ? keyRound.keyOrder[place] : -1;
          keys.position[j] = position < length ? position : -1;
          keys.row[j] = std::max(keys.position[j], 0);
          keys.round[j] = static_cast<int32_t>(other);
          keys.group[j] = listed ? places.keyGroup[position * p.rounds() + other] : -1;
        }
        tile(keys, count);
      }
    }
    done();
    s = stop;
  }
}

// Which heads and groups one call of the pool works on. Heads that are many are taken whole; few
// are cut into blocks of groups, round by round. What a row is added up from, and in which order,
// is the same.
struct SortedBlock {
  int64_t head, begin, end;  // of [B x heads], groups
};
inline std::vector<SortedBlock> sortedBlocks(const ops::SortedAttentionProblem& p, int64_t heads,
                                             int64_t headOfFirst, int64_t group, int64_t r) {
  constexpr int64_t kEntries = 1024;  // of a block
  std::vector<SortedBlock> blocks;
  for (int64_t item = 0; item < p.batch() * heads; ++item) {
    const SortedRound round(p, item / heads, item % heads * group + headOfFirst, r);
    int64_t begin = 0, taken = 0;
    for (int64_t g = 0; g < p.groups(); ++g) {
      taken += round.queries(g).size();
      if (taken < kEntries && g + 1 < p.groups()) continue;
      blocks.push_back({item, begin, g + 1});
      begin = g + 1;
      taken = 0;
    }
  }
  return blocks;
}
inline bool takesHeads(const ops::SortedAttentionProblem& p, int64_t heads, int threads) {
  return p.isGlobal() || heads >= 4 * threads || (heads >= threads && heads % threads == 0);
}

// Lets workerOf(b, h, thread), whose groups(r, begin, end) or, of pattern `global`, global(r) does
// the work, go over all groups of all rounds; those of one row never at the same time, and in the
// order of the rounds. `heads` share memory: queries of the `group` heads of a key head are taken
// one head after another.
template <class F>
void forEachSortedBlock(const ops::SortedAttentionProblem& p, int64_t heads, Context& context,
                        F&& workerOf) {
  const int64_t group = p.queryHeads() / heads;
  const int64_t items = p.batch() * heads;
  if (takesHeads(p, items, context.pool.size())) {
    context.pool.forEach(items, [&](int64_t item, int thread) {
      for (int64_t n = 0; n < group; ++n) {
        auto worker = workerOf(item / heads, item % heads * group + n, thread);
        for (int64_t r = 0; r < p.rounds(); ++r) {
          if (p.isGlobal()) {
            worker.global(r);
          } else {
            worker.groups(r, 0, p.groups());
          }
        }
      }
    });
    return;
  }
  for (int64_t n = 0; n < group; ++n) {
    for (int64_t r = 0; r < p.rounds(); ++r) {
      const std::vector<SortedBlock> blocks = sortedBlocks(p, heads, n, group, r);
      context.pool.forEach(static_cast<int64_t>(blocks.size()), [&](int64_t at, int thread) {
        const SortedBlock& block = blocks[static_cast<size_t>(at)];
        workerOf(block.head / heads, block.head % heads * group + n, thread)
            .groups(r, block.begin, block.end);
      });
    }
  }
}

// What counting duplicates of panels and tiles to come will read.
inline void fetchPlaces(RowsAhead& ahead, const ops::SortedAttentionProblem& p,
                        const SortedPlaces& places, const int32_t* queries, int64_t queryCount,
                        const int32_t* keys, int64_t keyCount) {
  if (!p.corrects()) return;
  const int64_t bytes = p.rounds() * static_cast<int64_t>(sizeof(int32_t));
  ahead.add(places.low, bytes, bytes, queries, queryCount);
  ahead.add(places.span, bytes, bytes, queries, queryCount);
  ahead.add(places.key, bytes, bytes, keys, keyCount);
}

// Rows of one head of a [B, H, tokens, dim] result in f32: the tensor itself, or memory that is
// rounded to it in the end.
struct SortedRows {
  float* at;
  int64_t dim;
  static int64_t floats(const TensorView& t) {
    return t.dtype == DType::f32 ? 0 : roundUp(t.numel(), 16);
  }
  SortedRows(const TensorView& t, float* memory, int64_t b, int64_t h) : dim(t.shape[3]) {
    float* base = t.dtype == DType::f32 ? t.data<float>() : memory;
    at = base + (b * t.shape[1] + h) * t.shape[2] * dim;
  }
  float* row(int64_t i) const { return at + i * dim; }
  void fetch(RowsAhead& ahead, const int32_t* positions, int64_t count) const {
    const int64_t bytes = dim * static_cast<int64_t>(sizeof(float));
    ahead.add(at, bytes, bytes, positions, count);
  }
};

// target += factor source.
LONGSPAN_INLINE void addRow(float* target, float factor, const float* source, int64_t dim) {
  int64_t d = 0;
  for (; d + kLanes <= dim; d += kLanes) {
    vstore(target + d, vfma(vload(source + d), vbroadcast(factor), vload(target + d)));
  }
  for (; d < dim; ++d) target[d] += factor * source[d];
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
