#include "cpp/cpu/sparse/sorted_entries.h"

#include <atomic>
#include <vector>

namespace longspan::cpu {
namespace {

// Whether one round's order of queries or keys is sound.
bool isSoundOrder(const int32_t* order, int64_t entries, const SortedRound& round,
                  Places (SortedRound::*groupAt)(int64_t) const, int64_t groups, int64_t tokens,
                  std::vector<bool>& listed) {
  listed.assign(static_cast<size_t>(tokens), false);
  int64_t end = 0;
  for (int64_t g = 0; g < groups; ++g) {
    const Places group = (round.*groupAt)(g);
    if (group.begin < end || group.end < group.begin || group.end > entries) return false;
    end = group.end;
    for (int64_t s = group.begin; s < group.end; ++s) {
      if (s > group.begin && order[s] <= order[s - 1]) return false;
      if (order[s] < 0 || order[s] >= tokens || listed[static_cast<size_t>(order[s])]) return false;
      listed[static_cast<size_t>(order[s])] = true;
    }
  }
  return true;
}

void fillSortedIntervals(const ops::SortedAttentionProblem& p, const SortedRound& round, int64_t r,
                         const SortedPlaces& places) {
  const int64_t rounds = p.rounds();
  for (int64_t g = 0; g < p.groups(); ++g) {
    round.forEachQuery(g, [&](int64_t s, Places seen) {
      const int64_t at = round.queryOrder[s] * rounds + r;
      places.low[at] = static_cast<int32_t>(seen.begin);
      places.span[at] = static_cast<int32_t>(seen.size());
    });
    const Places keys = round.keys(g);
    for (int64_t s = keys.begin; s < keys.end; ++s) {
      places.key[round.keyOrder[s] * rounds + r] = static_cast<int32_t>(s);
    }
  }
}

void fillSortedChunks(const ops::SortedAttentionProblem& p, const SortedRound& round, int64_t r,
                      const SortedPlaces& places) {
  const int64_t rounds = p.rounds(), first = r * p.queryEntries();
  for (int64_t g = 0; g < p.groups(); ++g) {
    const Places queries = round.queries(g), keys = round.keys(g);
    for (int64_t s = queries.begin; s < queries.end; ++s) {
      const int64_t at = round.queryOrder[s] * rounds + r;
      places.low[at] = static_cast<int32_t>(SeenChunks(p, (first + s) / p.chunk).first);
      places.span[at] = static_cast<int32_t>(g);
    }
    for (int64_t s = keys.begin; s < keys.end; ++s) {
      const int64_t at = round.keyOrder[s] * rounds + r;
      places.key[at] = static_cast<int32_t>((first + s) / p.chunk);
      places.keyGroup[at] = static_cast<int32_t>(g);
    }
  }
}

}  // namespace

Status prepareOrders(const ops::SortedAttentionProblem& p, int32_t* places, Context& context) {
  const int64_t heads = p.queryHeads(), rounds = p.rounds();
  std::atomic<int> fault{0};  // 1: queries, 2: keys
  const bool shared = p.queryOrder.base == p.keyOrder.base &&
                      p.queryOffsets.base == p.keyOffsets.base && p.queries() == p.keys();
  context.pool.forEach(p.batch() * heads, [&](int64_t item, int) {
    const int64_t b = item / heads, h = item % heads;
    const SortedPlaces at(p, places, b, h);
    if (SortedPlaces::needed(p)) {
      std::fill_n(at.key, rounds * p.keys(), p.isGlobal() ? SortedPlaces::kNoKey : -1);
      std::fill_n(at.low, rounds * p.queries(), p.isGlobal() ? SortedPlaces::kNoQuery : 0);
      std::fill_n(at.span, rounds * p.queries(), 0);
    }
    std::vector<bool> listed;
    for (int64_t r = 0; r < rounds; ++r) {
      const SortedRound round(p, b, h, r);
      if (!isSoundOrder(round.queryOrder, p.queryEntries(), round, &SortedRound::queries,
                        p.groups(), p.queries(), listed)) {
        fault = 1;
        return;
      }
      if (!shared && !isSoundOrder(round.keyOrder, p.keyEntries(), round, &SortedRound::keys,
                                   p.groups(), p.keys(), listed)) {
        fault = 2;
        return;
      }
      if (!SortedPlaces::needed(p)) continue;
      if (p.isGlobal()) {
        fillSortedChunks(p, round, r, at);
      } else {
        fillSortedIntervals(p, round, r, at);
      }
    }
  });
  if (fault == 0) return {};
  return Status(
      Code::failed, fault == 1 ? "queryOrder" : "keyOrder",
      "positions outside the sequence, listed twice in a round or not ascending in a group",
      "Use the order and offsets that bucketSort returns");
}

}  // namespace longspan::cpu
