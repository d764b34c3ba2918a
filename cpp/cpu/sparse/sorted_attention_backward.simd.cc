// Sorted attention, backward: the five products of exact attention
// (cpp/cpu/attention/backward_tile.h) over gathered rows, weights recomputed from the log-sum-exp
// of all rounds together.
//
// A group's keys are taken in spans of tiles that a thread keeps, with the gradients of its keys
// and values; panels of the group's queries walk over a span. What a panel or a span has added up
// goes to its rows once. Rows of one round belong to one group, and rounds are taken in their
// order, so that sums have one order for any number of threads.
//
// Cost per pair of a panel's queries and a tile's keys: 2 (3 D + 2 Dv) FLOPs and one exponential.
// Bytes per entry: a row of q, dO, k and v each, gathered, and dq, dk and dv, read and written.
// All of these are fetched behind the products before they are needed.
#include "cpp/cpu/attention/backward_panel.h"
#include "cpp/cpu/sparse/sorted_double.h"
#include "cpp/cpu/sparse/sorted_tile.h"
#include "cpp/ops/sparse/sorted_attention.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int64_t kSpanTiles = 16;  // tiles of keys that a thread keeps
static_assert(kSortedWidth == kPanelWidth);

// Padded widths of rows.
struct SortedWidths {
  int64_t dim, valueDim, dimLanes, valueLanes, dimRows;
  explicit SortedWidths(const ops::SortedAttentionProblem& p)
      : dim(p.dim()),
        valueDim(p.valueDim()),
        dimLanes(roundUp(dim, kLanes)),
        valueLanes(roundUp(valueDim, kLanes)),
        dimRows(roundUp(dim, kTileRows)) {}
};

// Memory of one thread.
struct SortedBackwardMemory {
  float *q, *g, *qt, *gt, *delta, *lse, *dqt, *p, *ds, *terms;
  struct Tile {
    float *k, *v, *gradK, *gradV;
  } tiles[kSpanTiles];
  int32_t *lows, *highs, *low, *span;

  SortedBackwardMemory(Scratch& scratch, const ops::SortedAttentionProblem& problem) {
    const SortedWidths w(problem);
    const auto ints = [&](int64_t count) {
      return reinterpret_cast<int32_t*>(scratch.take(count));
    };
    q = scratch.take(kPanelWidth * w.dimLanes);
    g = scratch.take(kPanelWidth * w.valueLanes);
    qt = scratch.take(w.dim * kPanelWidth);
    gt = scratch.take(w.valueDim * kPanelWidth);
    delta = scratch.take(kPanelWidth);
    lse = scratch.take(kPanelWidth);
    dqt = scratch.take(w.dimRows * kPanelWidth);
    p = scratch.take(kSortedKeys * kPanelWidth);
    ds = scratch.take(kSortedKeys * kPanelWidth);
    terms = scratch.take(SortedTerms::floats(problem));
    for (Tile& tile : tiles) {
      tile.k = scratch.take(kSortedKeys * w.dimRows);
      tile.v = scratch.take(kSortedKeys * w.valueDim);
      tile.gradK = scratch.take(kSortedKeys * w.dimLanes);
      tile.gradV = scratch.take(kSortedKeys * w.valueLanes);
    }
    lows = ints(problem.queryEntries());
    highs = ints(problem.queryEntries());
    low = ints(problem.corrects() ? problem.rounds() * kSortedWidth : 0);
    span = ints(problem.corrects() ? problem.rounds() * kSortedWidth : 0);
  }
};

struct SortedBackwardCall {
  const ops::SortedAttentionBackward& p;
  SortedWidths w;
  SortedTerms terms;
  int32_t* places;
  float *gradQ, *gradK, *gradV;  // rows of gradients in 16 bits
  float *delta, *lse;            // [B, H, N]; lse base 2
  float* threads;
  int64_t threadFloats;
};

// delta = sum(dO o O) - dLse and the log-sum-exp of rows [row, row + rows).
void prepareSortedRows(const SortedBackwardCall& call, int64_t b, int64_t h, int64_t row,
                       int64_t rows, SortedBackwardMemory& memory) {
  const ops::SortedAttentionBackward& p = call.p;
  const int64_t first = (b * p.queryHeads() + h) * p.queries() + row;
  const auto statistic = [&](const TensorView& t, int64_t i) {
    return t.data<float>()[b * t.stride[0] + h * t.stride[1] + (row + i) * t.stride[2]];
  };
  if (p.gradO.defined()) {
    packRows(p.gradO, b, h, row, rows, memory.g, call.w.valueLanes, rows);
    packRows(p.o, b, h, row, rows, memory.gt, call.w.valueLanes, rows);
  }
  for (int64_t i = 0; i < rows; ++i) {
    vf sum{};
    for (int64_t d = 0; p.gradO.defined() && d < call.w.valueLanes; d += kLanes) {
      const int64_t at = i * call.w.valueLanes + d;
      sum = vfma(vload(memory.g + at), vload(memory.gt + at), sum);
    }
    const float lse = statistic(p.lse, i);
    call.delta[first + i] = vsum(sum) - (p.gradLse.defined() ? statistic(p.gradLse, i) : 0.0f);
    call.lse[first + i] = lse == -std::numeric_limits<float>::infinity()
                              ? kNothing
                              : lse * static_cast<float>(kLog2E);
  }
}

// One head's panels.
class SortedHeadGradients {
 public:
  SortedHeadGradients(const SortedBackwardCall& call, const GeneralScore& score, int64_t b,
                      int64_t h, int thread)
      : call_(call),
        score_(score),
        b_(b),
        h_(h),
        shared_(h / (call.p.queryHeads() / call.p.keyHeads())),
        places_(call.p, call.places, b, h),
        gradQ_(call.p.gradQ, call.gradQ, b, h),
        gradK_(call.p.gradK, call.gradK, b, shared_),
        gradV_(call.p.gradV, call.gradV, b, shared_),
        delta_(call.delta + (b * call.p.queryHeads() + h) * call.p.queries()),
        lse_(call.lse + (b * call.p.queryHeads() + h) * call.p.queries()),
        scratch_{call.threads + thread * call.threadFloats},
        memory_(scratch_, call.p) {
    lanes_.low = memory_.low;
    lanes_.span = memory_.span;
    panel_.qt = memory_.qt;
    panel_.gt = memory_.gt;
    panel_.delta = memory_.delta;
    panel_.lse = memory_.lse;
    panel_.dqt = memory_.dqt;
    panel_.q = {memory_.q, call.w.dimLanes};
    panel_.g = {memory_.g, call.w.valueLanes};
  }

  void groups(int64_t r, int64_t begin, int64_t end) {
    const SortedRound round(call_.p, b_, h_, r);
    constexpr int64_t span = kSpanTiles * kSortedKeys;
    for (int64_t g = begin; g < end; ++g) {
      const Places keys = round.keys(g);
      for (int64_t first = keys.begin; first < keys.end; first += span) {
        const int64_t last = std::min(keys.end, first + span);
        std::fill_n(packed_, kSpanTiles, false);
        forEachPanel(call_.p, round, g, places_, lanes_, memory_.lows, memory_.highs, [&] {
          if (lanes_.first < last && lanes_.end > first) panel(round, first, last);
        });
        for (int64_t t = 0; t < kSpanTiles; ++t) {
          if (!packed_[t]) continue;
          const int64_t at = first + t * kSortedKeys;
          release(memory_.tiles[t], std::min(kSortedKeys, last - at), round.keyOrder + at);
        }
      }
    }
  }

  void global(int64_t r) {
    forEachGlobalPanel(
        call_.p, b_, h_, r, places_, lanes_, [&] { start(); },
        [&](const GlobalKeys& keys, int64_t count) {
          const SortedBackwardMemory::Tile& tile = memory_.tiles[0];
          pack(tile, count, keys.row);
          const int64_t padded = roundUp(count, kTileRows);
          const TermTiles terms =
              call_.terms.tiles(lanes_, places_, keys, count, padded, memory_.terms);
          RowsAhead ahead;
          products<kSortedVectors>(tile, 0, count, {}, terms, ahead);
          release(tile, count, keys.row);
        },
        [&] { finish(); });
  }

 private:
  // Q, dO and what belongs to the lanes.
  void start() {
    const SortedWidths& w = call_.w;
    const int64_t rows = lanes_.rows;
    panel_.rows = rows;
    const auto transpose = [&](const float* x, int64_t stride, int64_t dim, float* target) {
      transposeRows(x, stride, rows, dim, target, kPanelWidth, kPanelWidth);
    };
    gatherRows(call_.p.q, b_, h_, rows, lanes_.order, memory_.q, w.dimLanes, rows);
    transpose(memory_.q, w.dimLanes, w.dim, memory_.qt);
    if (call_.p.gradO.defined()) {
      gatherRows(call_.p.gradO, b_, h_, rows, lanes_.order, memory_.g, w.valueLanes, rows);
    } else {
      std::fill_n(memory_.g, kPanelWidth * w.valueLanes, 0.0f);
    }
    for (int64_t i = 0; i < kPanelWidth; ++i) {
      memory_.delta[i] = i < rows ? delta_[lanes_.order[i]] : 0.0f;
      memory_.lse[i] = i < rows ? lse_[lanes_.order[i]] : kNothing;
      if (i < rows) weighAlone(i);
    }
    transpose(memory_.g, w.valueLanes, w.valueDim, memory_.gt);
    std::memset(memory_.dqt, 0, static_cast<size_t>(w.dimRows * kPanelWidth) * sizeof(float));
  }

  // A row that sees only itself has a log-sum-exp near the penalty, where f32 is coarse. Its pairs
  // weigh the same: 1 each here, and their number divides what flows back.
  void weighAlone(int64_t i) {
    const int64_t position = lanes_.order[i];
    const double pairs = call_.terms.alone(places_, position, memory_.lse[i]);
    if (pairs == 0) return;
    memory_.lse[i] = call_.terms.addedToSelf(places_, position);
    const auto share = static_cast<float>(1 / pairs);
    memory_.delta[i] *= share;
    for (int64_t d = 0; d < call_.w.valueLanes; ++d) memory_.g[i * call_.w.valueLanes + d] *= share;
  }

  // dQ of the lanes goes to its rows.
  void finish() {
    const SortedWidths& w = call_.w;
    transposeRows(memory_.dqt, kPanelWidth, w.dim, lanes_.rows, memory_.q, w.dimLanes);
    const auto scale = static_cast<float>(call_.p.scale);
    for (int64_t i = 0; i < lanes_.rows; ++i) {
      addRow(gradQ_.row(lanes_.order[i]), scale, memory_.q + i * w.dimLanes, w.dim);
    }
  }

  void pack(const SortedBackwardMemory::Tile& tile, int64_t count, const int32_t* rows) {
    const SortedWidths& w = call_.w;
    const int64_t padded = roundUp(count, kTileRows);
    gatherRows(call_.p.k, b_, shared_, count, rows, tile.k, w.dimRows, padded);
    gatherRows(call_.p.v, b_, shared_, count, rows, tile.v, w.valueDim, padded);
    std::memset(tile.gradK, 0, static_cast<size_t>(padded * w.dimLanes) * sizeof(float));
    std::memset(tile.gradV, 0, static_cast<size_t>(padded * w.valueLanes) * sizeof(float));
  }

  void release(const SortedBackwardMemory::Tile& tile, int64_t count, const int32_t* rows) {
    const SortedWidths& w = call_.w;
    const auto scale = static_cast<float>(call_.p.scale);
    for (int64_t j = 0; j < count; ++j) {
      const int64_t position = rows[j];
      addRow(gradK_.row(position), scale, tile.gradK + j * w.dimLanes, w.dim);
      addRow(gradV_.row(position), 1.0f, tile.gradV + j * w.valueLanes, w.valueDim);
    }
  }

  // What this panel and its keys will add to, and what the next will gather.
  RowsAhead rowsAhead(const SortedRound& round, int64_t from, int64_t end) const {
    const ops::SortedAttentionBackward& p = call_.p;
    const int64_t groups = p.groups(), queries = round.queries(groups - 1).end;
    const int32_t* const order = lanes_.order;
    const int32_t* const nextQueries = order + lanes_.rows;
    const int64_t queryCount =
        std::min<int64_t>(kSortedWidth, round.queryOrder + queries - nextQueries);
    const int64_t keyCount = std::min(kSortedKeys, round.keys(groups - 1).end - end);
    RowsAhead ahead;
    ahead.add(p.q, b_, h_, nextQueries, queryCount);
    if (p.gradO.defined()) ahead.add(p.gradO, b_, h_, nextQueries, queryCount);
    ahead.add(p.k, b_, shared_, round.keyOrder + end, keyCount);
    ahead.add(p.v, b_, shared_, round.keyOrder + end, keyCount);
    gradQ_.fetch(ahead, order, lanes_.rows);
    gradK_.fetch(ahead, round.keyOrder + from, end - from);
    gradV_.fetch(ahead, round.keyOrder + from, end - from);
    fetchPlaces(ahead, p, places_, nextQueries, queryCount, round.keyOrder + end, keyCount);
    ahead.spread(2 * ((end - from) / kTileRows));
    return ahead;
  }

  void panel(const SortedRound& round, int64_t first, int64_t last) {
    start();
    const int64_t from = std::max(lanes_.first, first), end = std::min(lanes_.end, last);
    RowsAhead ahead = rowsAhead(round, from, end);
    for (int64_t t = (from - first) / kSortedKeys; first + t * kSortedKeys < end; ++t) {
      const int64_t begin = first + t * kSortedKeys;
      const int64_t count = std::min(kSortedKeys, last - begin);
      const SortedBackwardMemory::Tile& tile = memory_.tiles[t];
      if (!packed_[t]) {
        pack(tile, count, round.keyOrder + begin);
        packed_[t] = true;
      }
      TermTiles terms;
      if (call_.p.hasTerms()) {
        terms = call_.terms.tiles(lanes_, places_, round.keyOrder + begin, count,
                                  roundUp(count, kTileRows), memory_.terms);
      }
      const bool full =
          lanes_.fullBegin <= begin && lanes_.fullEnd >= begin + roundUp(count, kTileRows);
      withVectors([&](auto vectors) {
        this->template products<vectors>(tile, begin, count,
                                         full ? LaneBounds{} : LaneBounds{lanes_.lo, lanes_.hi},
                                         terms, ahead);
      });
    }
    finish();
  }

  // One vector alone would wait for its own sums.
  template <int kVectors = 2, class F>
  void withVectors(F&& f) {
    if constexpr (kVectors < kSortedVectors) {
      if (lanes_.vectors() > kVectors) return withVectors<kVectors + 1>(f);
    }
    f(std::integral_constant<int, kVectors>{});
  }

  template <int NR>
  void products(const SortedBackwardMemory::Tile& tile, int64_t begin, int64_t count,
                LaneBounds bounds, const TermTiles& terms, RowsAhead& ahead) {
    const SortedWidths& w = call_.w;
    const int64_t padded = roundUp(count, kTileRows);
    const HeadRows k{tile.k, w.dimRows}, v{tile.v, w.valueDim};
    weightGradients<GeneralScore, NR>(score_, k, v, w.dim, w.valueDim, begin, padded, panel_,
                                      bounds, terms, memory_.p, memory_.ds, ahead);
    addQueryGradient<NR>(k, w.dim, count, memory_.ds, memory_.dqt);
    addKeyGradient(padded, 1, &memory_.p, &panel_.g, &panel_.rows, tile.gradV, w.valueLanes);
    addKeyGradient(padded, 1, &memory_.ds, &panel_.q, &panel_.rows, tile.gradK, w.dimLanes);
  }

  const SortedBackwardCall& call_;
  const GeneralScore& score_;
  const int64_t b_, h_, shared_;
  const SortedPlaces places_;
  const SortedRows gradQ_, gradK_, gradV_;
  const float *delta_, *lse_;
  Scratch scratch_;
  const SortedBackwardMemory memory_;
  SortedLanes lanes_;
  QueryPanel panel_;
  bool packed_[kSpanTiles];
};

size_t backwardPlaceBytes(const ops::SortedAttentionBackward& p) {
  const int64_t ints = p.batch() * p.queryHeads() * SortedPlaces::ints(p);
  return static_cast<size_t>(roundUp(ints, 16)) * sizeof(int32_t);
}

int64_t backwardThreadFloats(const ops::SortedAttentionBackward& p) {
  Scratch scratch;
  SortedBackwardMemory memory(scratch, p);
  return roundUp(scratch.used, 16);
}

}  // namespace

size_t sortedAttentionBackwardWorkspace(const ops::SortedAttentionBackward& p, int threads) {
  if (p.q.dtype == DType::f64) return backwardPlaceBytes(p);
  const int64_t rows = SortedRows::floats(p.gradQ) + SortedRows::floats(p.gradK) +
                       SortedRows::floats(p.gradV) + 2 * roundUp(p.lse.numel(), 16);
  return backwardPlaceBytes(p) +
         static_cast<size_t>(rows + threads * backwardThreadFloats(p)) * sizeof(float);
}

Status sortedAttentionBackward(const ops::SortedAttentionBackward& p, Context& context) {
  auto* places = reinterpret_cast<int32_t*>(context.workspace.data);
  LONGSPAN_RETURN_IF_ERROR(prepareOrders(p, places, context));
  if (p.q.dtype == DType::f64) {
    sortedAttentionBackwardDouble(p, places, context);
    return {};
  }
  Scratch memory{reinterpret_cast<float*>(context.workspace.data + backwardPlaceBytes(p))};
  SortedBackwardCall call{
      p,       SortedWidths(p), SortedTerms(p),         places, nullptr, nullptr, nullptr, nullptr,
      nullptr, nullptr,         backwardThreadFloats(p)};
  call.gradQ = memory.take(SortedRows::floats(p.gradQ));
  call.gradK = memory.take(SortedRows::floats(p.gradK));
  call.gradV = memory.take(SortedRows::floats(p.gradV));
  call.delta = memory.take(p.lse.numel());
  call.lse = memory.take(p.lse.numel());
  call.threads = memory.at + memory.used;

  const int64_t heads = p.queryHeads(), shared = p.keyHeads();
  const int64_t blocks = (p.queries() + kPanelWidth - 1) / kPanelWidth;
  context.pool.forEach(p.batch() * heads * blocks, [&](int64_t item, int thread) {
    Scratch scratch{call.threads + thread * call.threadFloats};
    SortedBackwardMemory own(scratch, p);
    const int64_t head = item / blocks, row = item % blocks * kPanelWidth;
    prepareSortedRows(call, head / heads, head % heads, row,
                      std::min(kPanelWidth, p.queries() - row), own);
  });
  const auto eachGradient = [&](auto&& f) {
    f(p.gradQ, call.gradQ);
    f(p.gradK, call.gradK);
    f(p.gradV, call.gradV);
  };
  eachGradient([&](const TensorView& t, float* rows) {
    context.pool.forEach(t.shape[0] * t.shape[1], [&](int64_t item, int) {
      const SortedRows own(t, rows, item / t.shape[1], item % t.shape[1]);
      std::fill_n(own.at, t.shape[2] * own.dim, 0.0f);
    });
  });
  const GeneralScore score = sortedScore(p);
  forEachSortedBlock(p, shared, context, [&](int64_t b, int64_t h, int thread) {
    return SortedHeadGradients(call, score, b, h, thread);
  });
  eachGradient([&](const TensorView& t, float* rows) {
    if (t.dtype == DType::f32) return;
    context.pool.forEach(t.shape[0] * t.shape[1], [&](int64_t item, int) {
      const int64_t b = item / t.shape[1], h = item % t.shape[1];
      const SortedRows own(t, rows, b, h);
      unpackRows(own.at, own.dim, t, b, h, 0, t.shape[2]);
    });
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
