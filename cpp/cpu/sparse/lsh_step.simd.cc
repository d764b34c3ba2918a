// A head per item, its tokens one after another; each is a row of sorted attention
// (sorted_row.h) over the keys that the lists name, so that a step's bits are those of the parallel
// form. In how many rounds a key is seen is found by merging the rounds' lists, which ascend.
// Rows of K and V are gathered once per round: 4 (D + Dv) bytes and 2 (D + Dv) FLOPs a key in f32.
#include "cpp/ops/sparse/lsh_step.h"

#include <limits>

#include "cpp/cpu/sparse/sorted_row.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

// What one token sees, round by round: ranks of its buckets, with the positions of their tokens and
// the number of rounds that see these.
class SeenTokens {
 public:
  static int64_t ints(const ops::LshStep& p) {
    constexpr int64_t perRound = (sizeof(Places) + sizeof(int64_t)) / sizeof(int32_t);
    return roundUp(p.rounds() * (perRound + 2 * p.reach()), 16);
  }
  SeenTokens(const ops::LshStep& p, int32_t* memory)
      : p_(p),
        ranks_(reinterpret_cast<Places*>(memory)),
        next_(reinterpret_cast<int64_t*>(ranks_ + p.rounds())),
        positions_(reinterpret_cast<int32_t*>(next_ + p.rounds())),
        counts_(positions_ + p.rounds() * p.reach()) {}

  // Lists token `position` of head (b, h), the t-th of the step.
  void take(int64_t line, int64_t t, int64_t position) {
    const int64_t tokens = p_.q.shape[2], slots = p_.slots();
    for (int64_t r = 0; r < p_.rounds(); ++r) {
      const int64_t round = line * p_.rounds() + r;
      const int64_t bucket = p_.buckets.data<int32_t>()[round * tokens + t];
      Places& ranks = ranks_[r];
      ranks = {0, 0};
      if (bucket < 0 || bucket >= p_.bucketCount()) continue;
      const int64_t at = round * p_.bucketCount() + bucket;
      int32_t* list = p_.lists.data<int32_t>() + at * slots;
      const int64_t rank = p_.counts.data<int32_t>()[at]++;
      list[rank % slots] = static_cast<int32_t>(position);
      if (!p_.attends) continue;
      const int64_t first = std::max<int64_t>(0, rank / p_.chunk - p_.back) * p_.chunk;
      ranks = {std::max(first, rank + 1 - p_.reach()), rank + 1};
      for (int64_t i = ranks.begin; i < ranks.end; ++i) {
        positions_[r * p_.reach() + i - ranks.begin] = list[i % slots];
      }
    }
  }

  void countRounds() {
    std::fill_n(next_, p_.rounds(), 0);
    for (;;) {
      int32_t least = std::numeric_limits<int32_t>::max(), count = 0;
      forEachAhead([&](int64_t at, int64_t&) { least = std::min(least, positions_[at]); });
      forEachAhead([&](int64_t at, int64_t&) { count += positions_[at] == least; });
      if (count == 0) return;
      forEachAhead([&](int64_t at, int64_t& next) {
        if (positions_[at] != least) return;
        counts_[at] = count;
        ++next;
      });
    }
  }

  Places ranks(int64_t r) const { return ranks_[r]; }
  int64_t position(int64_t r, int64_t rank) const { return positions_[at(r, rank)]; }
  int64_t count(int64_t r, int64_t rank) const { return counts_[at(r, rank)]; }

 private:
  int64_t at(int64_t r, int64_t rank) const { return r * p_.reach() + rank - ranks(r).begin; }
  // Calls f(where it is, what is taken of the round) for the next token of each round that has one.
  template <class F>
  void forEachAhead(F&& f) {
    for (int64_t r = 0; r < p_.rounds(); ++r) {
      if (next_[r] < ranks_[r].size()) f(r * p_.reach() + next_[r], next_[r]);
    }
  }

  const ops::LshStep& p_;
  Places* ranks_;
  int64_t* next_;
  int32_t *positions_, *counts_;
};

int64_t rowFloats(const ops::LshStep& p) {
  return dispatchRow(p.q.dtype, [&](auto* row) {
    return std::remove_pointer_t<decltype(row)>::floats(p.q.shape[3], p.values.shape[3]);
  });
}

template <class Row>
void attendToSeen(const ops::LshStep& p, const ops::SortedAttentionProblem& problem,
                  const SortedTerms& terms, SeenTokens& seen, Row& row) {
  if (problem.corrects()) seen.countRounds();
  for (int64_t r = 0; r < p.rounds(); ++r) {
    const Places ranks = seen.ranks(r);
    row.round(
        terms, problem, p.keys, p.values, ranks, ranks.end - 1,
        [&](int64_t rank) { return seen.position(r, rank); },
        [&](int64_t rank) { return problem.corrects() ? seen.count(r, rank) : 1; });
  }
  row.finish(p.o);
}

}  // namespace

size_t lshStepWorkspace(const ops::LshStep& p, int threads) {
  return static_cast<size_t>(threads * (SeenTokens::ints(p) + rowFloats(p))) * sizeof(float);
}

Status lshStep(const ops::LshStep& p, Context& context) {
  const int64_t batch = p.q.shape[0], heads = p.q.shape[1], tokens = p.q.shape[2];
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t length = p.lengths.data<int32_t>()[b];
    if (length >= tokens && length <= p.capacity()) continue;
    return Status(Code::failed, "lengths", std::to_string(length),
                  "It counts the cached tokens, of which the step's are the last");
  }
  const ops::SortedAttentionProblem problem = stepProblem(p.rounds(), p.scale, true, p.selfPenalty);
  const SortedTerms terms(problem);
  const int64_t ints = SeenTokens::ints(p), floats = ints + rowFloats(p);
  dispatchRow(p.q.dtype, [&](auto* type) {
    using Row = std::remove_pointer_t<decltype(type)>;
    context.pool.forEach(batch * heads, [&](int64_t line, int thread) {
      const int64_t b = line / heads, h = line % heads;
      float* memory = reinterpret_cast<float*>(context.workspace.data) + thread * floats;
      SeenTokens seen(p, reinterpret_cast<int32_t*>(memory));
      Scratch scratch{memory + ints};
      Row row(scratch, p.q.shape[3], p.values.shape[3]);
      const int64_t first = p.lengths.data<int32_t>()[b] - tokens;
      for (int64_t t = 0; t < tokens; ++t) {
        seen.take(line, t, first + t);
        if (!p.attends) continue;
        row.start(p.q, b, h, t);
        attendToSeen(p, problem, terms, seen, row);
      }
    });
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
