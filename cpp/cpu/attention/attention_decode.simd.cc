// Exact attention of a few new tokens against a cache.
//
// The query heads that share a key head, times the new tokens, are the lanes of one panel
// (panel.h), so that each key is read once for all of them. Few heads and a long cache: keys are
// split among work items and the partial results merged in order. The split follows from shapes and
// lengths alone. Of a paged cache, tiles of keys that lie in one page are used where they lie, and
// those that cross pages are gathered; results are the same to the bit.
//
// Cost per visible key and lane: 2 (D + Dv) FLOPs. Bytes: the valid part of the cache, once.
#include "cpp/ops/attention/attention_decode.h"

#include "cpp/cpu/attention/band.h"
#include "cpp/cpu/attention/double.h"
#include "cpp/cpu/attention/page_table.h"
#include "cpp/cpu/attention/panel.h"
#include "cpp/cpu/attention/terms.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int64_t kSplitItems = 16;  // work items worth having
static_assert(ops::AttentionDecode::kSplitStep == kKeyTile);

// Where the rows of a tile lie.
struct TileRuns {
  int64_t count = 0;
  PageTable::Run at[kKeyTile];
};

template <int NR>
struct DecodePlan {
  using P = Panel<NR>;
  static constexpr int64_t kWidth = P::kWidth;
  int64_t group, lanes, panels, statesFloats, threadFloats;
  ops::DecodeSplits splits;

  explicit DecodePlan(const ops::AttentionDecode& p) {
    group = p.queryHeads() / p.keyHeads();
    lanes = group * p.queries();
    panels = (lanes + kWidth - 1) / kWidth;
    const int64_t items = std::max<int64_t>(1, p.batch() * p.keyHeads() * panels);
    splits = p.plan((kSplitItems + items - 1) / items);
    // O^T, maxima and sums of one split.
    statesFloats = roundUp((P::paddedDim(p.valueDim()) + 2) * kWidth, 16);
    Scratch scratch;
    scratch.take(p.dim() * kWidth), scratch.take(kKeyTile * kWidth);
    scratch.take(kKeyTile * p.dim()), scratch.take(kKeyTile * P::paddedDim(p.valueDim()));
    scratch.take(kWidth * roundUp(std::max(p.dim(), p.valueDim()), kLanes));
    scratch.take(Terms::floats(p, kWidth, kKeyTile));
    threadFloats = scratch.used;
  }
  int64_t states(const ops::AttentionDecode& p) const {
    return p.batch() * p.keyHeads() * panels * splits.count;
  }
};

template <int NR>
struct Decoder {
  using P = Panel<NR>;
  const ops::AttentionDecode& p;
  const DecodePlan<NR> plan;
  std::vector<Band> bands;
  const Terms terms;
  const PageTable pages;
  float* states;
  float* threads;

  // Calls f(lane, head, token, count) for runs of lanes of panel i that lie in one head.
  template <class F>
  void forEachRun(int64_t g, int64_t i, F&& f) const {
    const int64_t end = std::min((i + 1) * P::kWidth, plan.lanes);
    for (int64_t r = i * P::kWidth; r < end;) {
      const int64_t token = r % p.queries(), count = std::min(p.queries() - token, end - r);
      f(r - i * P::kWidth, g * plan.group + r / p.queries(), token, count);
      r += count;
    }
  }

  // The keys of one split, of all that any query of the entry sees.
  Range splitOf(const Band& band, int64_t split) const {
    const Range all = band.keysOf(0, band.queries);
    if (all.empty()) return {};
    const int64_t first = all.begin / kKeyTile * kKeyTile, parts = plan.splits.parts;
    const int64_t share =
        std::max(plan.splits.least, roundUp((all.end - first + parts - 1) / parts, kKeyTile));
    return {first + split * share, std::min(all.end, first + (split + 1) * share)};
  }

  void runsOf(int64_t b, int64_t key, int64_t count, TileRuns& runs) const {
    runs.count = 0;
    pages.forEachRun(b, key, count,
                     [&](const PageTable::Run& run, int64_t) { runs.at[runs.count++] = run; });
  }

  // Rows of a head of the cache as denseRows() gives them. Pages at the begin of a tile that no
  // query sees need not exist.
  static HeadRows cacheRows(const TensorView& t, int64_t g, const TileRuns& runs, int64_t count,
                            float* scratch, int64_t width, int64_t height) {
    const PageTable::Run& first = runs.at[0];
    if (runs.count == 1) {
      return denseRows(t, first.entry, g, first.row, count, scratch, width, height);
    }
    const bool dense = isDense(t) && width == t.shape[3];
    float* to = scratch;
    for (int64_t i = 0; i < runs.count; ++i) {
      const PageTable::Run& run = runs.at[i];
      const auto bytes = static_cast<size_t>(run.count * width) * sizeof(float);
      if (run.entry < 0) {
        std::memset(to, 0, bytes);
      } else if (dense) {
        std::memcpy(to, f32Row(t, run.entry, g, run.row), bytes);
      } else {
        packRows(t, run.entry, g, run.row, run.count, to, width, run.count);
      }
      to += run.count * width;
    }
    std::memset(to, 0, static_cast<size_t>((height - count) * width) * sizeof(float));
    return {scratch, width};
  }

  // What terms.h adds to the scores of a tile, [key][lane].
  TermTiles added(const Band& band, int64_t g, int64_t i, int64_t key, int64_t keys, int64_t lanes,
                  float* scratch) const {
    const int64_t padded = roundUp(keys, P::kRows);
    forEachRun(g, i, [&](int64_t lane, int64_t queryHead, int64_t token, int64_t count) {
      terms.addedRows({&band, queryHead, token, count, key, keys, padded}, {},
                      scratch + lane * padded);
    });
    TermTiles result;
    result.added = Terms::spread(lanes, padded, scratch, P::kWidth, scratch + P::kWidth * padded);
    return result;
  }

  // Item: (batch entry, key head, panel, split).
  float* state(int64_t item) const { return states + item * plan.statesFloats; }

  template <class Score>
  void attend(const Score& score, int64_t item, int thread) const {
    const int64_t splits = plan.splits.count, split = item % splits,
                  i = item / splits % plan.panels;
    const int64_t head = item / splits / plan.panels, b = head / p.keyHeads(),
                  g = head % p.keyHeads();
    const Band& band = bands[static_cast<size_t>(b)];
    const Range mine = splitOf(band, split);
    if (split > 0 && mine.empty()) return;  // merge() leaves it out too
    const int64_t dim = p.dim(), valueDim = p.valueDim();
    Scratch scratch{threads + thread * plan.threadFloats};
    P panel;
    panel.dim = dim, panel.valueDim = valueDim;
    panel.qt = scratch.take(dim * P::kWidth);
    panel.ot = state(item);
    float* weights = scratch.take(kKeyTile * P::kWidth);
    float* keys = scratch.take(kKeyTile * dim);
    float* values = scratch.take(kKeyTile * P::paddedDim(valueDim));
    float* rows = scratch.take(P::kWidth * roundUp(std::max(dim, valueDim), kLanes));
    float* pairs = scratch.take(Terms::floats(p, P::kWidth, kKeyTile));

    int64_t lanes = 0, bounds[P::kWidth];
    forEachRun(g, i, [&](int64_t lane, int64_t queryHead, int64_t token, int64_t count) {
      packRows(p.q, b, queryHead, token, count, rows + lane * dim, dim, count);
      for (int64_t n = 0; n < count; ++n) bounds[lane + n] = token + n;
      lanes = lane + count;
    });
    panel.start(HeadRows{rows, dim}, lanes, [&](int64_t lane) {
      return bounds[lane] < band.queries ? Range{band.first(bounds[lane]), band.end(bounds[lane])}
                                         : Range{};
    });
    const int64_t begin = std::max(mine.begin, panel.range.begin / kKeyTile * kKeyTile);
    const int64_t end = std::min(mine.end, panel.range.end);
    TileRuns runs[2];
    runsOf(b, begin, std::min(kKeyTile, end - begin), runs[0]);
    for (int64_t j = begin; j < end; j += kKeyTile) {
      const int64_t count = std::min(kKeyTile, end - j), now = (j - begin) / kKeyTile % 2;
      const TileRuns &own = runs[now], &next = runs[1 - now];
      runsOf(b, j + count, std::min(kKeyTile, end - j - count), runs[1 - now]);
      const KeyTile tile{j, count,
                         cacheRows(p.k, g, own, count, keys, dim, roundUp(count, P::kRows)),
                         cacheRows(p.v, g, own, count, values, P::paddedDim(valueDim), count)};
      RowsAhead ahead(p.k, p.v, g, next.at, next.count, P::kRows);
      if constexpr (Score::kPlain) {
        panel.step(score, tile, weights, ahead);
      } else {
        panel.step(score, tile, weights, ahead,
                   p.hasTerms() ? added(band, g, i, j, count, lanes, pairs) : TermTiles{});
      }
    }
    if (splits == 1) {
      write(panel, b, g, i, rows);
    } else {
      panel.save(panel.ot + P::paddedDim(valueDim) * P::kWidth);
    }
  }

  void merge(int64_t item, int thread) const {
    const int64_t i = item % plan.panels, head = item / plan.panels;
    P panel;
    panel.valueDim = p.valueDim();
    panel.rows = std::min<int64_t>(P::kWidth, plan.lanes - i * P::kWidth);
    const int64_t statistics = P::paddedDim(p.valueDim()) * P::kWidth;
    const int64_t splits = plan.splits.count;
    const Band& band = bands[static_cast<size_t>(head / p.keyHeads())];
    panel.ot = state(item * splits);
    panel.restore(panel.ot + statistics);
    for (int64_t split = 1; split < splits && !splitOf(band, split).empty(); ++split) {
      const float* other = state(item * splits + split);
      panel.absorb(other, other + statistics);
    }
    write(panel, head / p.keyHeads(), head % p.keyHeads(), i, threads + thread * plan.threadFloats);
  }

  void write(P& panel, int64_t b, int64_t g, int64_t i, float* rows) const {
    const int64_t width = roundUp(p.valueDim(), kLanes);
    if (p.sinks.defined()) {
      // Rows beyond the queries have none.
      float logits[P::kWidth];
      std::fill_n(logits, P::kWidth, -std::numeric_limits<float>::infinity());
      const int64_t queries = bands[static_cast<size_t>(b)].queries;
      forEachRun(g, i, [&](int64_t lane, int64_t queryHead, int64_t token, int64_t count) {
        const float logit = p.sinks.data<float>()[queryHead * p.sinks.stride[0]];
        std::fill_n(logits + lane, std::clamp<int64_t>(queries - token, 0, count),
                    logit * static_cast<float>(kLog2E));
      });
      panel.sink(logits);
    }
    panel.normalize();
    transposeRows(panel.ot, P::kWidth, p.valueDim(), panel.rows, rows, width);
    float lse[P::kWidth];
    if (p.lse.defined()) panel.logSumExp(lse);
    forEachRun(g, i, [&](int64_t lane, int64_t queryHead, int64_t token, int64_t count) {
      unpackRows(rows + lane * width, width, p.o, b, queryHead, token, count);
      if (p.lse.defined()) {
        std::memcpy(p.lse.data<float>() + (b * p.queryHeads() + queryHead) * p.queries() + token,
                    lse + lane, static_cast<size_t>(count) * sizeof(float));
      }
    });
  }
};

template <int NR>
void run(const ops::AttentionDecode& p, std::vector<Band> bands, Context& context) {
  const DecodePlan<NR> plan(p);
  float* memory = reinterpret_cast<float*>(context.workspace.data);
  const Decoder<NR> decoder{p,
                            plan,
                            std::move(bands),
                            Terms(p),
                            PageTable(p),
                            memory,
                            memory + plan.states(p) * plan.statesFloats};
  dispatchScore(p, [&](auto score) {
    context.pool.forEach(plan.states(p),
                         [&](int64_t item, int thread) { decoder.attend(score, item, thread); });
  });
  if (plan.splits.count == 1) return;
  context.pool.forEach(plan.states(p) / plan.splits.count,
                       [&](int64_t item, int thread) { decoder.merge(item, thread); });
}

template <int NR>
size_t bytes(const ops::AttentionDecode& p, int threads) {
  const DecodePlan<NR> plan(p);
  return static_cast<size_t>(plan.states(p) * plan.statesFloats + threads * plan.threadFloats) *
         sizeof(float);
}

bool isNarrow(const ops::AttentionDecode& p) {
  return p.queryHeads() / p.keyHeads() * p.queries() <= kLanes;
}

}  // namespace

size_t attentionDecodeWorkspace(const ops::AttentionDecode& p, int threads) {
  if (p.q.dtype == DType::f64) return 0;
  return isNarrow(p) ? bytes<1>(p, threads) : bytes<kTileVectors>(p, threads);
}

Status attentionDecode(const ops::AttentionDecode& p, Context& context) {
  std::vector<Band> bands;
  LONGSPAN_RETURN_IF_ERROR(bandsOf(p, bands));
  const PageTable pages(p);
  for (const Band& band : bands) {
    LONGSPAN_RETURN_IF_ERROR(pages.check(band.entry, band.keysOf(0, band.queries)));
  }
  if (p.q.dtype == DType::f64) {
    attentionDouble(p, p.o, p.lse, bands, context);
  } else if (isNarrow(p)) {
    run<1>(p, std::move(bands), context);
  } else {
    run<kTileVectors>(p, std::move(bands), context);
  }
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
