// Exact attention, backward: weights are recomputed from the log-sum-exp, tile by tile (Dao et al.
// 2022, algorithm 4).
//
// Key heads of all sequences are taken in waves that fit into memory; per wave three parallel
// passes:
//   1. prepare   per panel of queries: Q^T, dO^T, delta = sum(dO o O) - dLse
//   2. keys      per (key head, range of keys): dK, dV of the range, and the range's share of dQ
//   3. queries   per panel: shares of dQ added in the order of the ranges
// The number of ranges depends on the shape alone, so results are equal for any number of threads.
// The gradient of sinks, -sum over rows of exp(sink - lse) delta, is summed from a share per panel.
//
// Cost per visible pair: 2 (3 D + 2 Dv) FLOPs and one exponential. Memory: Q^T, dO^T and one dQ per
// range in f32 for the heads of a wave.
#include "cpp/ops/attention/attention_backward.h"

#include "cpp/cpu/attention/backward_panel.h"
#include "cpp/cpu/attention/double.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int64_t kRangeItems = 32;  // (head, range) pairs worth having
constexpr int64_t kMostRanges = 8;   // bounds the memory for shares of dQ
constexpr int64_t kWaveFloats = int64_t{1} << 24;

// Sizes that follow from the shape; floats unless said otherwise.
struct BackwardPlan {
  PanelLayout layout;
  int64_t group, ranges, rangeKeys;
  int64_t panels;      // of one head, if one sequence has all the tokens
  int64_t wavePanels;  // that a wave's memory holds, of all query heads of a group
  int64_t panelFloats, threadFloats, sinkFloats;

  BackwardPlan(const ops::AttentionBackward& p, int threads) : layout(p) {
    group = p.queryHeads() / p.keyHeads();
    const int64_t heads = std::max<int64_t>(1, p.batch() * p.keyHeads());
    panels = (p.queries() + kPanelWidth - 1) / kPanelWidth;
    const int64_t blocks = (p.keys() + kKeyBlock - 1) / kKeyBlock;
    ranges = std::clamp<int64_t>((kRangeItems + heads - 1) / heads, 1,
                                 std::clamp<int64_t>(blocks / 2, 1, kMostRanges));
    rangeKeys = std::max<int64_t>(1, (blocks + ranges - 1) / ranges) * kKeyBlock;
    ranges = std::max<int64_t>(1, (p.keys() + rangeKeys - 1) / rangeKeys);
    panelFloats = layout.floats(ranges);
    Scratch scratch;
    scratch.take(kKeyBlock * layout.dimRows), scratch.take(kKeyBlock * layout.valueDim);
    scratch.take(kKeyBlock * layout.dimLanes), scratch.take(kKeyBlock * layout.valueLanes);
    scratch.take(2 * kPanelsPerGroup * kKeyBlock * kPanelWidth);
    scratch.take(Terms::floats(p, kPanelWidth, kKeyBlock));
    threadFloats = std::max(scratch.used,
                            kPanelWidth * (layout.dimLanes + layout.valueLanes + layout.dimRows));
    const int64_t busy = (4 * threads + ranges - 1) / ranges;
    const int64_t headFloats = group * panels * panelFloats;
    const int64_t wave = std::clamp<int64_t>(kWaveFloats / std::max<int64_t>(headFloats, 1),
                                             std::min(busy, heads), heads);
    wavePanels = wave * group * panels;
    sinkFloats = p.withGradSinks ? p.queryHeads() * (p.batch() * panels + p.sequences()) : 0;
  }
  size_t bytes(int threads) const {
    return static_cast<size_t>(wavePanels * panelFloats + threads * threadFloats + sinkFloats) *
           sizeof(float);
  }
};

// A key head of one sequence.
struct Unit {
  const GradientRows* rows;
  int64_t keyHead;
  int64_t panels;      // per query head
  int64_t firstPanel;  // in the memory of the wave
  int64_t firstShare;  // of its sequence, among the panels of all sequences
};

// A panel of the wave.
struct PanelItem {
  const Unit* unit;
  int64_t h;  // of the group
  int64_t i;
};

struct BackwardCall {
  const ops::AttentionBackward& p;
  const BackwardPlan plan;
  const Terms terms;
  TensorView gradQ, gradK, gradV;
  float* panels;   // of the wave
  float* threads;  // scratch per thread
  float* sinks;    // shares of the gradient of sinks, [Hq][panels of all sequences]
  int64_t sinkShares = 0;

  int64_t queryHead(const Unit& unit, int64_t h) const { return unit.keyHead * plan.group + h; }

  QueryPanel panel(const Unit& unit, int64_t h, int64_t i, int64_t range) const {
    float* memory = panels + (unit.firstPanel + h * unit.panels + i) * plan.panelFloats;
    return plan.layout.panel(*unit.rows, queryHead(unit, h), i * kPanelWidth, memory, plan.ranges,
                             range);
  }

  Range panelsOf(const Band& band, int64_t range) const {
    const int64_t begin = range * plan.rangeKeys;
    const Range queries = band.queriesOf(begin, std::min(begin + plan.rangeKeys, band.keys));
    if (queries.empty()) return {};
    return {queries.begin / kPanelWidth, (queries.end + kPanelWidth - 1) / kPanelWidth};
  }
};

// Pass 1.
void prepare(const BackwardCall& call, const PanelItem& item, float* scratch) {
  const Unit& unit = *item.unit;
  const int64_t h = call.queryHead(unit, item.h);
  const QueryPanel panel = call.panel(unit, item.h, item.i, 0);
  preparePanel(*unit.rows, call.plan.layout, h, item.i * kPanelWidth, panel, scratch);
  if (!call.p.withGradSinks) return;
  const TensorView& sinks = call.p.sinks;
  const float logit = sinks.data<float>()[h * sinks.stride[0]];
  double sum = 0;
  for (int64_t r = 0; r < panel.rows; ++r) {
    if (panel.lse[r] == kNothing) continue;
    sum -= std::exp2(logit * static_cast<float>(kLog2E) - panel.lse[r]) * panel.delta[r];
  }
  call.sinks[h * call.sinkShares + unit.firstShare + item.i] = static_cast<float>(sum);
}

// One thread's memory in pass 2.
struct KeyScratch {
  float *k, *v, *gradK, *gradV, *terms;
  float *p[kPanelsPerGroup], *ds[kPanelsPerGroup];
  KeyScratch(float* memory, const BackwardCall& call) {
    const PanelLayout& layout = call.plan.layout;
    Scratch scratch{memory};
    k = scratch.take(kKeyBlock * layout.dimRows);
    v = scratch.take(kKeyBlock * layout.valueDim);
    gradK = scratch.take(kKeyBlock * layout.dimLanes);
    gradV = scratch.take(kKeyBlock * layout.valueLanes);
    for (int i = 0; i < kPanelsPerGroup; ++i) {
      p[i] = scratch.take(kKeyBlock * kPanelWidth);
      ds[i] = scratch.take(kKeyBlock * kPanelWidth);
    }
    terms = scratch.take(Terms::floats(call.p, kPanelWidth, kKeyBlock));
  }
};

// Pass 2.
template <class Score>
void keyRange(const BackwardCall& call, const Score& score, const Unit& unit, int64_t range,
              KeyScratch& scratch) {
  const BackwardPlan& plan = call.plan;
  const PanelLayout& layout = plan.layout;
  const GradientRows& rows = *unit.rows;
  const Band& band = rows.band;
  const int64_t begin = std::min(range * plan.rangeKeys, band.keyRows),
                end = std::min(begin + plan.rangeKeys, band.keyRows);
  const int64_t valid = std::clamp(band.keys, begin, end);
  const TensorView gradK = keyRowsOf(call.gradK, band), gradV = keyRowsOf(call.gradV, band);

  const Range touched = call.panelsOf(band, range);
  for (int64_t h = 0; h < plan.group; ++h) {
    for (int64_t i = touched.begin; i < touched.end; ++i) {
      std::memset(call.panel(unit, h, i, range).dqt, 0,
                  static_cast<size_t>(layout.dimRows * kPanelWidth) * sizeof(float));
    }
  }
  const int64_t step = call.p.maskRows.defined() ? call.p.maskBlock : kKeyBlock;
  for (int64_t j = begin; j < valid; j += step) {
    const int64_t count = std::min(step, valid - j);
    const KeyBlock keys = keyBlock(rows, layout, unit.keyHead, j, count, scratch.k, scratch.v);
    std::memset(scratch.gradK, 0,
                static_cast<size_t>(keys.padded * layout.dimLanes) * sizeof(float));
    std::memset(scratch.gradV, 0,
                static_cast<size_t>(keys.padded * layout.valueLanes) * sizeof(float));
    const Range queries = band.queriesOf(j, j + count);
    for (int64_t h = 0; h < plan.group && !queries.empty(); ++h) {
      const int64_t lastPanel = (queries.end + kPanelWidth - 1) / kPanelWidth;
      HeadRows q[kPanelsPerGroup], gradO[kPanelsPerGroup];
      int64_t filled[kPanelsPerGroup];
      int64_t met = 0;
      for (int64_t i = queries.begin / kPanelWidth; i < lastPanel; ++i) {
        const QueryPanel panel = call.panel(unit, h, i, range);
        const Pairs pairs{
            &band, call.queryHead(unit, h), i * kPanelWidth, panel.rows, j, count, keys.padded};
        if (scoreGradients(score, call.terms, layout, pairs, keys, panel, scratch.p[met],
                           scratch.ds[met], scratch.terms)) {
          addQueryGradient(keys.k, layout.dim, count, scratch.ds[met], panel.dqt);
          q[met] = panel.q, gradO[met] = panel.g, filled[met] = panel.rows;
          ++met;
        }
        if (met < kPanelsPerGroup && (i + 1 < lastPanel || met == 0)) continue;
        addKeyGradient(keys.padded, met, scratch.p, gradO, filled, scratch.gradV,
                       layout.valueLanes);
        addKeyGradient(keys.padded, met, scratch.ds, q, filled, scratch.gradK, layout.dimLanes);
        met = 0;
      }
    }
    const vf scale = vbroadcast(static_cast<float>(call.p.scale));
    for (int64_t at = 0; at < count * layout.dimLanes; at += kLanes) {
      vstore(scratch.gradK + at, vload(scratch.gradK + at) * scale);
    }
    unpackRows(scratch.gradK, layout.dimLanes, gradK, 0, unit.keyHead, j, count);
    unpackRows(scratch.gradV, layout.valueLanes, gradV, 0, unit.keyHead, j, count);
  }
  clearRows(gradK, 0, unit.keyHead, valid, end);
  clearRows(gradV, 0, unit.keyHead, valid, end);
}

// Pass 3.
void queryGradient(const BackwardCall& call, const PanelItem& item, float* scratch) {
  const BackwardPlan& plan = call.plan;
  const PanelLayout& layout = plan.layout;
  const Band& band = item.unit->rows->band;
  const int64_t h = call.queryHead(*item.unit, item.h);
  const int64_t row = item.i * kPanelWidth, end = std::min(row + kPanelWidth, band.queryRows);
  const QueryPanel panel = call.panel(*item.unit, item.h, item.i, 0);
  float *sum = scratch, *rows = scratch + layout.dimRows * kPanelWidth;
  std::memset(sum, 0, static_cast<size_t>(layout.dimRows * kPanelWidth) * sizeof(float));
  for (int64_t range = 0; range < plan.ranges && panel.rows > 0; ++range) {
    const Range touched = call.panelsOf(band, range);
    if (item.i < touched.begin || item.i >= touched.end) continue;
    const float* share = panel.dqt + range * layout.dimRows * kPanelWidth;
    for (int64_t at = 0; at < layout.dim * kPanelWidth; at += kLanes) {
      vstore(sum + at, vload(sum + at) + vload(share + at));
    }
  }
  const vf scale = vbroadcast(static_cast<float>(call.p.scale));
  for (int64_t at = 0; at < layout.dim * kPanelWidth; at += kLanes)
    vstore(sum + at, vload(sum + at) * scale);
  const TensorView gradQ = queryRowsOf(call.gradQ, band);
  transposeRows(sum, kPanelWidth, layout.dim, panel.rows, rows, layout.dimLanes);
  unpackRows(rows, layout.dimLanes, gradQ, 0, h, row, panel.rows);
  clearRows(gradQ, 0, h, row + panel.rows, end);
}

void runWave(const BackwardCall& call, const std::vector<Unit>& units, Context& context) {
  const auto memory = [&](int thread) { return call.threads + thread * call.plan.threadFloats; };
  std::vector<PanelItem> panels;
  for (const Unit& unit : units) {
    for (int64_t h = 0; h < call.plan.group; ++h) {
      for (int64_t i = 0; i < unit.panels; ++i) panels.push_back({&unit, h, i});
    }
  }
  const auto forEachPanel = [&](auto&& run) {
    context.pool.forEach(static_cast<int64_t>(panels.size()), [&](int64_t item, int thread) {
      run(call, panels[static_cast<size_t>(item)], memory(thread));
    });
  };
  forEachPanel(prepare);
  const auto count = static_cast<int64_t>(units.size());
  dispatchScore(call.p, [&](auto score) {
    // Causal masks make the first range the longest: it starts first.
    context.pool.forEach(count * call.plan.ranges, [&](int64_t item, int thread) {
      KeyScratch scratch(memory(thread), call);
      keyRange(call, score, units[static_cast<size_t>(item % count)], item / count, scratch);
    });
  });
  forEachPanel(queryGradient);
}

void run(const BackwardCall& call, const std::vector<GradientRows>& rows, Context& context) {
  std::vector<Unit> wave;
  int64_t used = 0, share = 0;
  for (const GradientRows& sequence : rows) {
    const int64_t panels = (sequence.band.queryRows + kPanelWidth - 1) / kPanelWidth;
    const int64_t needed = panels * call.plan.group;
    for (int64_t g = 0; g < call.p.keyHeads(); ++g) {
      if (!wave.empty() && used + needed > call.plan.wavePanels) {
        runWave(call, wave, context);
        wave.clear();
        used = 0;
      }
      wave.push_back({&sequence, g, panels, used, share});
      used += needed;
    }
    share += panels;
  }
  if (!wave.empty()) runWave(call, wave, context);
}

}  // namespace

size_t attentionBackwardWorkspace(const ops::AttentionBackward& p, int threads) {
  return p.q.dtype == DType::f64 ? 0 : BackwardPlan(p, threads).bytes(threads);
}

Status attentionBackward(const ops::AttentionBackward& p, Context& context) {
  std::vector<Band> bands;
  LONGSPAN_RETURN_IF_ERROR(bandsOf(p, bands));
  if (p.q.dtype == DType::f64) {
    attentionBackwardDouble(p, bands, context);
    return {};
  }
  const BackwardPlan plan(p, context.pool.size());
  std::vector<GradientRows> rows;
  rows.reserve(bands.size());
  int64_t shares = 0;
  for (const Band& band : bands) {
    rows.emplace_back(p, band);
    shares += (band.queryRows + kPanelWidth - 1) / kPanelWidth;
  }
  float* memory = reinterpret_cast<float*>(context.workspace.data);
  float* threads = memory + plan.wavePanels * plan.panelFloats;
  const BackwardCall call{p,
                          plan,
                          Terms(p),
                          p.headMajor(p.gradQ),
                          p.headMajor(p.gradK),
                          p.headMajor(p.gradV),
                          memory,
                          threads,
                          threads + context.pool.size() * plan.threadFloats,
                          shares};
  run(call, rows, context);
  for (int64_t h = 0; p.withGradSinks && h < p.queryHeads(); ++h) {
    double sum = 0;
    for (int64_t i = 0; i < shares; ++i) sum += call.sinks[h * shares + i];
    p.gradSinks.data<float>()[h] = static_cast<float>(sum);
  }
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
