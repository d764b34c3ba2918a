// Sorted attention, forward: the panels of exact attention (cpp/cpu/attention/panel.h) over rows
// that are gathered through the order.
//
// Panels of queries and tiles of keys start at the beginning of their group, so that a causal row
// is computed in the same way, bit for bit, whatever tokens follow. A tile of keys is gathered once
// and kept for the panels that follow. Panels with few queries compute few vectors. Rounds are
// combined as they come: a row's output stays divided by its sum, and a maximum and a sum are kept
// per row (Milakov and Gimelshein 2018), so that memory does not grow with the rounds.
//
// Cost per pair of a panel's queries and a tile's keys: 2 (D + Dv) FLOPs and one exponential, and 3
// R integer operations where duplicates of R rounds are corrected. Bytes per entry: a row of q, k,
// v and o each, gathered: rows of the next panel are fetched behind the products of this one.
#include "cpp/ops/sparse/sorted_attention.h"

#include "cpp/cpu/sparse/sorted_row.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int64_t kKeptTiles = 16;  // tiles of keys that a thread keeps

static_assert(kSortedKeys == kKeyTile);

// Memory of one thread.
struct SortedForwardMemory {
  float *qt, *ot, *p, *rows, *terms;
  float *k[kKeptTiles], *v[kKeptTiles];
  int32_t *lows, *highs, *low, *span;

  SortedForwardMemory(Scratch& scratch, const ops::SortedAttention& problem) {
    const int64_t dim = problem.dim(), valueDim = problem.valueDim();
    const auto ints = [&](int64_t count) {
      return reinterpret_cast<int32_t*>(scratch.take(count));
    };
    qt = scratch.take(dim * kSortedWidth);
    ot = scratch.take(roundUp(valueDim, kRowPadding) * kSortedWidth);
    p = scratch.take(kSortedKeys * kSortedWidth);
    rows = scratch.take(kSortedWidth * roundUp(std::max(dim, valueDim), kLanes));
    terms = scratch.take(SortedTerms::floats(problem));
    for (int64_t i = 0; i < kKeptTiles; ++i) {
      k[i] = scratch.take(kSortedKeys * dim);
      v[i] = scratch.take(kSortedKeys * roundUp(valueDim, kRowPadding));
    }
    lows = ints(problem.queryEntries());
    highs = ints(problem.queryEntries());
    low = ints(problem.corrects() ? problem.rounds() * kSortedWidth : 0);
    span = ints(problem.corrects() ? problem.rounds() * kSortedWidth : 0);
  }
};

struct SortedForwardCall {
  const ops::SortedAttention& p;
  SortedTerms terms;
  int32_t* places;
  float* rows;    // of outputs in 16 bits
  float* maxima;  // [B, H, N], base 2
  float* sums;    // [B, H, N]
  float* threads;
  int64_t threadFloats;
};

// One head's panels.
class SortedHeadPanels {
 public:
  SortedHeadPanels(const SortedForwardCall& call, const GeneralScore& score, int64_t b, int64_t h,
                   int thread)
      : call_(call),
        score_(score),
        b_(b),
        h_(h),
        shared_(h / (call.p.queryHeads() / call.p.keyHeads())),
        places_(call.p, call.places, b, h),
        out_(call.p.o, call.rows, b, h),
        maxima_(call.maxima + (b * call.p.queryHeads() + h) * call.p.queries()),
        sums_(call.sums + (b * call.p.queryHeads() + h) * call.p.queries()),
        scratch_{call.threads + thread * call.threadFloats},
        memory_(scratch_, call.p) {
    lanes_.low = memory_.low;
    lanes_.span = memory_.span;
  }

  void groups(int64_t r, int64_t begin, int64_t end) {
    round_ = r;
    const SortedRound round(call_.p, b_, h_, r);
    order_ = round.keyOrder;
    queriesEnd_ = round.queryOrder + round.queries(call_.p.groups() - 1).end;
    keysEnd_ = round.keyOrder + round.keys(call_.p.groups() - 1).end;
    for (int64_t g = begin; g < end; ++g) {
      std::fill_n(kept_, kKeptTiles, -1);
      keys_ = round.keys(g);
      forEachPanel(call_.p, round, g, places_, lanes_, memory_.lows, memory_.highs,
                   [&] { withVectors([&](auto vectors) { this->template panel<vectors>(); }); });
    }
  }

  void global(int64_t r) {
    round_ = r;
    Panel<kSortedVectors> panel;
    RowsAhead ahead;
    forEachGlobalPanel(
        call_.p, b_, h_, r, places_, lanes_,
        [&] { start(panel, [](int64_t) {
                return Range{0, kUnbounded};
              }); },
        [&](const GlobalKeys& keys, int64_t count) {
          pack(keys.row, count, 0);
          step(panel, KeyTile{0, count, keyRows(0), valueRows(0)},
               call_.terms.tiles(lanes_, places_, keys, count, roundUp(count, kRowPadding),
                                 memory_.terms),
               ahead);
        },
        [&] { merge(panel); });
  }

 private:
  template <int kVectors = 1, class F>
  void withVectors(F&& f) {
    if constexpr (kVectors < kSortedVectors) {
      if (lanes_.vectors() > kVectors) return withVectors<kVectors + 1>(f);
    }
    f(std::integral_constant<int, kVectors>{});
  }

  HeadRows keyRows(int64_t slot) const { return {memory_.k[slot], call_.p.dim()}; }
  HeadRows valueRows(int64_t slot) const {
    return {memory_.v[slot], roundUp(call_.p.valueDim(), kRowPadding)};
  }
  void pack(const int32_t* rows, int64_t count, int64_t slot) {
    const int64_t padded = roundUp(count, kRowPadding);
    gatherRows(call_.p.k, b_, shared_, count, rows, memory_.k[slot], call_.p.dim(), padded);
    gatherRows(call_.p.v, b_, shared_, count, rows, memory_.v[slot],
               roundUp(call_.p.valueDim(), kRowPadding), padded);
  }

  template <int NR, class BoundsOf>
  void start(Panel<NR>& panel, BoundsOf&& boundsOf) {
    const int64_t dim = call_.p.dim();
    panel.dim = dim;
    panel.valueDim = call_.p.valueDim();
    panel.qt = memory_.qt;
    panel.ot = memory_.ot;
    gatherRows(call_.p.q, b_, h_, lanes_.rows, lanes_.order, memory_.rows, dim, lanes_.rows);
    panel.start(HeadRows{memory_.rows, dim}, lanes_.rows, boundsOf);
  }

  template <int NR>
  void step(Panel<NR>& panel, const KeyTile& tile, const TermTiles& terms, RowsAhead& ahead) {
    panel.step(score_, tile, memory_.p, ahead, terms);
  }

  // What this panel will add to, and what the next will gather.
  RowsAhead rowsAhead() const {
    const int64_t begin = (lanes_.first - keys_.begin) / kSortedKeys * kSortedKeys;
    const int64_t keys = roundUp(lanes_.end - keys_.begin - begin, kSortedKeys);
    const int32_t* const nextKeys = order_ + std::min(keys_.end, keys_.begin + begin + keys);
    const int64_t keyCount = std::min<int64_t>(kSortedKeys, keysEnd_ - nextKeys);
    const int32_t* const nextQueries = lanes_.order + lanes_.rows;
    RowsAhead ahead;
    out_.fetch(ahead, lanes_.order, lanes_.rows);
    const int64_t queryCount = std::min<int64_t>(kSortedWidth, queriesEnd_ - nextQueries);
    ahead.add(call_.p.q, b_, h_, nextQueries, queryCount);
    ahead.add(call_.p.k, b_, shared_, nextKeys, keyCount);
    ahead.add(call_.p.v, b_, shared_, nextKeys, keyCount);
    fetchPlaces(ahead, call_.p, places_, nextQueries, queryCount, nextKeys, keyCount);
    ahead.spread(keys / kRowPadding);
    return ahead;
  }

  template <int NR>
  void panel() {
    Panel<NR> panel;
    start(panel, [&](int64_t i) { return Range{lanes_.lo[i], lanes_.hi[i]}; });
    RowsAhead ahead = rowsAhead();
    const int64_t firstTile = (lanes_.first - keys_.begin) / kSortedKeys;
    for (int64_t t = firstTile; keys_.begin + t * kSortedKeys < lanes_.end; ++t) {
      const int64_t begin = keys_.begin + t * kSortedKeys, slot = t % kKeptTiles;
      const int64_t count = std::min(kSortedKeys, keys_.end - begin);
      if (kept_[slot] != t) {
        pack(order_ + begin, count, slot);
        kept_[slot] = t;
      }
      TermTiles terms;
      if (call_.p.hasTerms()) {
        // Keys behind the last that is seen need no terms.
        const int64_t seen = std::min(count, lanes_.end - begin);
        terms = call_.terms.tiles(lanes_, places_, order_ + begin, seen,
                                  roundUp(count, kRowPadding), memory_.terms);
      }
      step(panel, KeyTile{begin, count, keyRows(slot), valueRows(slot)}, terms, ahead);
    }
    merge(panel);
  }

  // Puts a panel's result beside what earlier rounds gave its rows.
  template <int NR>
  void merge(Panel<NR>& panel) {
    constexpr int64_t width = Panel<NR>::kWidth;
    const int64_t rows = lanes_.rows, valueDim = call_.p.valueDim();
    float maximum[width], sum[width], before[width];
    for (int64_t i = 0; i < width; ++i) {
      maximum[i] = i < rows ? maxima_[lanes_.order[i]] : 0.0f;
      sum[i] = i < rows ? sums_[lanes_.order[i]] : 0.0f;
    }
    mergeLanes(panel, maximum, sum, before);
    const int64_t padded = roundUp(valueDim, kLanes);
    transposeRows(panel.ot, width, valueDim, rows, memory_.rows, padded);
    float lse[width];
    if (call_.p.withRoundLse) panel.logSumExp(lse);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t position = lanes_.order[i];
      maxima_[position] = maximum[i];
      sums_[position] = sum[i];
      combineRow(out_.row(position), before[i], memory_.rows + i * padded, valueDim);
      if (call_.p.withRoundLse) {
        const int64_t at = (b_ * call_.p.queryHeads() + h_) * call_.p.rounds() + round_;
        call_.p.roundLse.data<float>()[at * call_.p.queries() + position] = lse[i];
      }
    }
  }

  const SortedForwardCall& call_;
  const GeneralScore& score_;
  const int64_t b_, h_, shared_;
  const SortedPlaces places_;
  const SortedRows out_;
  float *maxima_, *sums_;
  Scratch scratch_;
  const SortedForwardMemory memory_;
  SortedLanes lanes_;
  int64_t round_ = 0;
  Places keys_{};
  const int32_t *order_ = nullptr, *queriesEnd_ = nullptr, *keysEnd_ = nullptr;
  int64_t kept_[kKeptTiles];  // the tile of the group in each slot
};

// Log-sum-exps, zeros for rows that saw no key, and the rows in the output's type.
void finishSortedHead(const SortedForwardCall& call, int64_t b, int64_t h) {
  const ops::SortedAttention& p = call.p;
  const int64_t first = (b * p.queryHeads() + h) * p.queries();
  const SortedRows rows(p.o, call.rows, b, h);
  for (int64_t i = 0; i < p.queries(); ++i) {
    const float sum = call.sums[first + i];
    p.lse.data<float>()[first + i] = sum == 0.0f ? -std::numeric_limits<float>::infinity()
                                                 : call.maxima[first + i] * kLn2 + std::log(sum);
    if (sum == 0.0f) std::fill_n(rows.row(i), rows.dim, 0.0f);
  }
  if (p.o.dtype != DType::f32) unpackRows(rows.at, rows.dim, p.o, b, h, 0, p.queries());
}

size_t forwardPlaceBytes(const ops::SortedAttention& p) {
  const int64_t ints = p.batch() * p.queryHeads() * SortedPlaces::ints(p);
  return static_cast<size_t>(roundUp(ints, 16)) * sizeof(int32_t);
}

int64_t forwardThreadFloats(const ops::SortedAttention& p) {
  Scratch scratch;
  SortedForwardMemory memory(scratch, p);
  return roundUp(scratch.used, 16);
}

}  // namespace

size_t sortedAttentionWorkspace(const ops::SortedAttention& p, int threads) {
  if (p.q.dtype == DType::f64) return forwardPlaceBytes(p);
  const int64_t statistics = 2 * roundUp(p.lse.numel(), 16);
  return forwardPlaceBytes(p) + static_cast<size_t>(SortedRows::floats(p.o) + statistics +
                                                    threads * forwardThreadFloats(p)) *
                                    sizeof(float);
}

Status sortedAttention(const ops::SortedAttention& p, Context& context) {
  auto* places = reinterpret_cast<int32_t*>(context.workspace.data);
  LONGSPAN_RETURN_IF_ERROR(prepareOrders(p, places, context));
  if (p.q.dtype == DType::f64) {
    sortedAttentionDouble(p, places, context);
    return {};
  }
  Scratch memory{reinterpret_cast<float*>(context.workspace.data + forwardPlaceBytes(p))};
  SortedForwardCall call{p,       SortedTerms(p), places,  nullptr,
                         nullptr, nullptr,        nullptr, forwardThreadFloats(p)};
  call.rows = memory.take(SortedRows::floats(p.o));
  call.maxima = memory.take(p.lse.numel());
  call.sums = memory.take(p.lse.numel());
  call.threads = memory.at + memory.used;
  std::fill_n(call.sums, p.lse.numel(), 0.0f);
  if (p.withRoundLse) {
    std::fill_n(p.roundLse.data<float>(), p.roundLse.numel(),
                -std::numeric_limits<float>::infinity());
  }
  const int64_t heads = p.queryHeads();
  const GeneralScore score = sortedScore(p);
  forEachSortedBlock(p, heads, context, [&](int64_t b, int64_t h, int thread) {
    return SortedHeadPanels(call, score, b, h, thread);
  });
  context.pool.forEach(p.batch() * heads, [&](int64_t item, int) {
    finishSortedHead(call, item / heads, item % heads);
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
