// The orders of sorted attention as kernels read them: which keys an entry sees.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpp/ops/sparse/sorted_attention.h"

namespace longspan::cpu {

// Places [begin, end) of an order.
struct Places {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// One round of one query head.
class SortedRound {
 public:
  SortedRound(const ops::SortedAttentionProblem& p, int64_t b, int64_t h, int64_t r) : p_(p) {
    const int64_t line = (b * p.queryHeads() + h) * p.rounds() + r;
    queryOrder = p.queryOrder.data<int32_t>() + line * p.queryEntries();
    keyOrder = p.keyOrder.data<int32_t>() + line * p.keyEntries();
    queryOffsets_ = p.queryOffsets.data<int32_t>() + line * (p.groups() + 1);
    keyOffsets_ = p.keyOffsets.data<int32_t>() + line * (p.groups() + 1);
  }

  const int32_t *queryOrder, *keyOrder;

  Places queries(int64_t g) const { return {queryOffsets_[g], queryOffsets_[g + 1]}; }
  Places keys(int64_t g) const { return {keyOffsets_[g], keyOffsets_[g + 1]}; }

  // Calls f(place, keys seen) for the queries of a group, in order; not for pattern `global`.
  template <class F>
  void forEachQuery(int64_t g, F&& f) const {
    const Places own = queries(g), all = keys(g);
    int64_t limit = all.begin;  // the first key at a later position than the query's
    for (int64_t s = own.begin; s < own.end; ++s) {
      if (p_.causal) {
        while (limit < all.end && keyOrder[limit] <= queryOrder[s]) ++limit;
      }
      Places seen = all;
      if (p_.pattern == ops::SortedPattern::chunk) {
        const int64_t c = (s - own.begin) / p_.chunk;
        seen.begin = all.begin + std::min(all.size(), std::max<int64_t>(0, c - p_.back) * p_.chunk);
        seen.end = all.begin + std::min(all.size(), (c + 1 + p_.forward) * p_.chunk);
      }
      if (p_.causal) seen.end = std::min(seen.end, limit);
      if (p_.pattern == ops::SortedPattern::window) {
        seen.begin = std::max(seen.begin, seen.end - p_.window);
      }
      f(s, seen.size() > 0 ? seen : Places{seen.begin, seen.begin});
    }
  }

 private:
  const ops::SortedAttentionProblem& p_;
  const int32_t *queryOffsets_, *keyOffsets_;
};

// The chunks that chunk c of pattern `global` sees: `count` of them from `first` on, around the
// end.
struct SeenChunks {
  int64_t first, count;
  SeenChunks(const ops::SortedAttentionProblem& p, int64_t c) {
    const int64_t chunks = p.chunks();
    count = std::min(p.back + 1 + p.forward, chunks);
    const int64_t back = std::min(p.back, count - 1);
    first = ((c - back) % chunks + chunks) % chunks;
  }
  int64_t at(int64_t i, int64_t chunks) const { return (first + i) % chunks; }
};

// Where positions lie in the orders of one head, to count in how many ways a pair is seen; all
// [position][round].
//
// Intervals: key j is seen by query i in a round when key[j] - low[i] < span[i], unsigned; -1 and
// an empty span where the round does not list the position. Pattern `global`: key is a chunk and
// low the first chunk that the query sees; round s of j is seen from round r of i when key[j] -
// low[i], unsigned, or that plus all chunks, is below SeenChunks' count. The groups are in span and
// keyGroup.
struct SortedPlaces {
  int32_t *key, *low, *span, *keyGroup;

  // Chunks where a round does not list a position: far from all others, and from each other.
  static constexpr int32_t kNoKey = -3 * (1 << 29);
  static constexpr int32_t kNoQuery = std::numeric_limits<int32_t>::min();

  static bool needed(const ops::SortedAttentionProblem& p) { return p.corrects() || p.isGlobal(); }
  // Of one head.
  static int64_t ints(const ops::SortedAttentionProblem& p) {
    if (!needed(p)) return 0;
    return p.rounds() * (2 * p.queries() + (p.isGlobal() ? 2 : 1) * p.keys());
  }
  SortedPlaces(const ops::SortedAttentionProblem& p, int32_t* all, int64_t b, int64_t h)
      : key(all + (b * p.queryHeads() + h) * ints(p)),
        low(key + p.rounds() * p.keys()),
        span(low + p.rounds() * p.queries()),
        keyGroup(span + p.rounds() * p.queries()) {}
};

// Whether entries (round r of query i) and (round s of key j) form a pair of pattern `global`; what
// positions hide is not looked at.
inline bool seesGlobally(const ops::SortedAttentionProblem& p, const SortedPlaces& places,
                         int64_t i, int64_t r, int64_t j, int64_t s) {
  const int64_t rounds = p.rounds();
  if (p.sameGroup && (r != s || places.span[i * rounds + r] != places.keyGroup[j * rounds + s])) {
    return false;
  }
  const auto distance = static_cast<uint32_t>(places.key[j * rounds + s]) -
                        static_cast<uint32_t>(places.low[i * rounds + r]);
  return std::min(distance, distance + static_cast<uint32_t>(p.chunks())) <
         static_cast<uint32_t>(SeenChunks(p, 0).count);
}

// N_ij, of pattern `global` as `duplicates` has it.
inline int64_t countDuplicates(const ops::SortedAttentionProblem& p, const SortedPlaces& places,
                               int64_t i, int64_t j) {
  const int64_t rounds = p.rounds();
  int64_t count = 0;
  if (!p.isGlobal()) {
    for (int64_t r = 0; r < rounds; ++r) {
      const auto distance = static_cast<uint32_t>(places.key[j * rounds + r]) -
                            static_cast<uint32_t>(places.low[i * rounds + r]);
      count += distance < static_cast<uint32_t>(places.span[i * rounds + r]);
    }
    return count;
  }
  const bool sameRound = p.duplicates == ops::SortedDuplicates::sameRound;
  for (int64_t r = 0; r < rounds; ++r) {
    for (int64_t s = 0; s < rounds; ++s) {
      if (r == s || !sameRound) count += seesGlobally(p, places, i, r, j, s);
    }
  }
  return count;
}

// What is subtracted from the logit of a pair: log N_ij.
inline double logDuplicates(const ops::SortedAttentionProblem& p, const SortedPlaces& places,
                            int64_t i, int64_t j) {
  if (!p.corrects()) return 0;
  const double least = p.duplicates == ops::SortedDuplicates::sameRound ? 1e-9 : 0;
  return std::log(static_cast<double>(countDuplicates(p, places, i, j)) + least);
}

// Checks the orders and fills in the places of all heads (`places` may be null where none are
// needed). Fails where an order points outside its tensors, lists a position twice in a round or
// does not ascend within a group.
Status prepareOrders(const ops::SortedAttentionProblem& p, int32_t* places, Context& context);

}  // namespace longspan::cpu
