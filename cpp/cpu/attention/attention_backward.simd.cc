// Exact attention, backward: weights are recomputed from the log-sum-exp, tile by tile (Dao et al.
// 2022, algorithm 4).
//
// Per wave of key heads, three parallel passes:
//   1. prepare   per panel of queries: Q^T, dO^T, delta = sum(dO o O) - dLse
//   2. keys      per (key head, range of keys): dK, dV of the range, and the range's share of dQ
//   3. queries   per panel: shares of dQ added in the order of the ranges
// The number of ranges depends on the shape alone, so results are equal for any number of threads.
//
// Cost per visible pair: 2 (3 D + 2 Dv) FLOPs and one exponential. Memory: Q^T, dO^T and one dQ per
// range in f32 for the heads of a wave.
#include "cpp/ops/attention/attention_backward.h"

#include "cpp/cpu/attention/backward_tile.h"
#include "cpp/cpu/attention/band.h"
#include "cpp/cpu/attention/double.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int64_t kRangeItems = 32;  // (head, range) pairs worth having
constexpr int64_t kMostRanges = 8;   // bounds the memory for shares of dQ
constexpr int64_t kWaveFloats = int64_t{1} << 24;
constexpr float kNothing = 1e30f;  // stands for the log-sum-exp of a lane without keys

// Sizes that follow from the shape; floats unless said otherwise.
struct BackwardPlan {
  int64_t group, heads, n, m, dim, valueDim;  // heads: key heads of all batch entries
  int64_t panels, ranges, rangeKeys;
  int64_t dimLanes, valueLanes, dimRows;  // padded to lanes, lanes, tile rows
  bool packsQ, packsG;                    // whether rows of Q and dO must be copied
  int64_t panelFloats, headFloats, threadFloats;
  int64_t wave;  // key heads per wave

  BackwardPlan(const ops::AttentionBackward& p, int threads) {
    group = p.queryHeads() / p.keyHeads();
    heads = p.batch() * p.keyHeads();
    n = p.queries(), m = p.keys(), dim = p.dim(), valueDim = p.valueDim();
    panels = (n + kPanelWidth - 1) / kPanelWidth;
    const int64_t blocks = (m + kKeyBlock - 1) / kKeyBlock;
    ranges = std::clamp<int64_t>((kRangeItems + heads - 1) / std::max<int64_t>(heads, 1), 1,
                                 std::clamp<int64_t>(blocks / 2, 1, kMostRanges));
    rangeKeys = std::max<int64_t>(1, (blocks + ranges - 1) / ranges) * kKeyBlock;
    ranges = std::max<int64_t>(1, (m + rangeKeys - 1) / rangeKeys);
    dimLanes = roundUp(dim, kLanes), valueLanes = roundUp(valueDim, kLanes),
    dimRows = roundUp(dim, kTileRows);
    packsQ = !direct(p, p.q);
    packsG = !p.gradO.defined() || !direct(p, p.gradO);
    panelFloats = (dim + valueDim + 2 + ranges * dimRows) * kPanelWidth +
                  (packsQ ? kPanelWidth * dimLanes : 0) + (packsG ? kPanelWidth * valueLanes : 0);
    panelFloats = roundUp(panelFloats, 16);
    headFloats = group * panels * panelFloats;
    Scratch scratch;
    scratch.take(kKeyBlock * dimRows), scratch.take(kKeyBlock * valueDim);
    scratch.take(kKeyBlock * dimLanes), scratch.take(kKeyBlock * valueLanes);
    scratch.take(2 * kPanelsPerGroup * kKeyBlock * kPanelWidth);
    threadFloats =
        std::max(scratch.used, kPanelWidth * (dimLanes + valueLanes) + kPanelWidth * dimRows);
    const int64_t busy = (4 * threads + ranges - 1) / ranges;
    wave = std::clamp<int64_t>(kWaveFloats / std::max<int64_t>(headFloats, 1),
                               std::min(busy, std::max<int64_t>(heads, 1)),
                               std::max<int64_t>(heads, 1));
  }

  static bool direct(const ops::AttentionBackward& p, const TensorView& t) {
    const TensorView view = p.headMajor(t);
    return hasF32Rows(view) && view.stride[2] == view.shape[3] && view.shape[3] % kLanes == 0;
  }
  size_t bytes(int threads) const {
    return static_cast<size_t>(wave * headFloats + threads * threadFloats) * sizeof(float);
  }
};

struct BackwardCall {
  const ops::AttentionBackward& p;
  const BackwardPlan plan;
  TensorView q, k, v, o, gradO, gradQ, gradK, gradV;
  std::vector<Band> bands;
  float* heads;    // panels of the wave
  float* threads;  // scratch per thread
  int64_t firstHead = 0;

  // Panel i of the query head h of group `head`, counted within the wave; share of `range`.
  QueryPanel panel(int64_t head, int64_t h, int64_t i, int64_t range) const {
    const int64_t g = firstHead + head, b = g / p.keyHeads(),
                  queryHead = g % p.keyHeads() * plan.group + h;
    const int64_t row = i * kPanelWidth;
    QueryPanel panel;
    panel.rows = std::clamp<int64_t>(bands[static_cast<size_t>(b)].queries - row, 0, kPanelWidth);
    float* at = heads + ((head * plan.group + h) * plan.panels + i) * plan.panelFloats;
    const auto take = [&](int64_t floats) {
      float* piece = at;
      at += floats;
      return piece;
    };
    panel.qt = take(plan.dim * kPanelWidth);
    panel.gt = take(plan.valueDim * kPanelWidth);
    panel.delta = take(kPanelWidth);
    panel.lse = take(kPanelWidth);
    panel.dqt = take(plan.ranges * plan.dimRows * kPanelWidth) + range * plan.dimRows * kPanelWidth;
    panel.q = plan.packsQ ? HeadRows{take(kPanelWidth * plan.dimLanes), plan.dimLanes}
                          : HeadRows{f32Row(q, b, queryHead, row), plan.dim};
    panel.g = plan.packsG ? HeadRows{take(kPanelWidth * plan.valueLanes), plan.valueLanes}
                          : HeadRows{f32Row(gradO, b, queryHead, row), plan.valueDim};
    return panel;
  }

  Range panelsOf(const Band& band, int64_t range) const {
    const int64_t begin = range * plan.rangeKeys;
    const Range queries = band.queriesOf(begin, std::min(begin + plan.rangeKeys, band.keys));
    if (queries.empty()) return {};
    return {queries.begin / kPanelWidth, (queries.end + kPanelWidth - 1) / kPanelWidth};
  }
};

// Pass 1.
void preparePanel(const BackwardCall& call, int64_t head, int64_t h, int64_t i, float* scratch) {
  const ops::AttentionBackward& p = call.p;
  const BackwardPlan& plan = call.plan;
  const int64_t g = call.firstHead + head, b = g / p.keyHeads(),
                queryHead = g % p.keyHeads() * plan.group + h;
  const int64_t row = i * kPanelWidth;
  const QueryPanel panel = call.panel(head, h, i, 0);
  if (panel.rows == 0) return;

  if (plan.packsQ) {
    packRows(call.q, b, queryHead, row, panel.rows, const_cast<float*>(panel.q.data), plan.dimLanes,
             panel.rows);
  }
  const auto transpose = [&](HeadRows x, int64_t dim, float* target) {
    transposeBlock(x.data, x.stride, panel.rows, dim, target, kPanelWidth);
    const int64_t filled = roundUp(panel.rows, kLanes);
    for (int64_t d = 0; d < dim && filled < kPanelWidth; ++d) {
      std::fill(target + d * kPanelWidth + filled, target + (d + 1) * kPanelWidth, 0.0f);
    }
  };
  transpose(panel.q, plan.dim, panel.qt);

  std::fill(panel.delta, panel.delta + kPanelWidth, 0.0f);
  std::fill(panel.lse, panel.lse + kPanelWidth, kNothing);
  if (p.gradO.defined()) {
    if (plan.packsG) {
      packRows(call.gradO, b, queryHead, row, panel.rows, const_cast<float*>(panel.g.data),
               plan.valueLanes, panel.rows);
    }
    transpose(panel.g, plan.valueDim, panel.gt);
    packRows(call.o, b, queryHead, row, panel.rows, scratch, plan.valueLanes, panel.rows);
    for (int64_t r = 0; r < panel.rows; ++r) {
      const float *x = panel.g.data + r * panel.g.stride, *y = scratch + r * plan.valueLanes;
      vf sum{};
      for (int64_t d = 0; d < plan.valueLanes; d += kLanes)
        sum = vfma(vload(x + d), vload(y + d), sum);
      panel.delta[r] = vsum(sum);
    }
  } else {
    std::fill(panel.gt, panel.gt + plan.valueDim * kPanelWidth, 0.0f);
    std::fill_n(const_cast<float*>(panel.g.data), kPanelWidth * plan.valueLanes, 0.0f);
  }
  const auto statistic = [&](const TensorView& t, int64_t r) {
    return t.data<float>()[b * t.stride[0] + queryHead * t.stride[1] + (row + r) * t.stride[2]];
  };
  for (int64_t r = 0; r < panel.rows; ++r) {
    const float lse = statistic(p.lse, r);
    panel.lse[r] = lse == -std::numeric_limits<float>::infinity()
                       ? kNothing
                       : lse * static_cast<float>(kLog2E);
    if (p.gradLse.defined()) panel.delta[r] -= statistic(p.gradLse, r);
  }
}

// One thread's memory in pass 2.
struct KeyScratch {
  float *k, *v, *gradK, *gradV;
  float *p[kPanelsPerGroup], *ds[kPanelsPerGroup];
  KeyScratch(float* memory, const BackwardPlan& plan) {
    Scratch scratch{memory};
    k = scratch.take(kKeyBlock * plan.dimRows);
    v = scratch.take(kKeyBlock * plan.valueDim);
    gradK = scratch.take(kKeyBlock * plan.dimLanes);
    gradV = scratch.take(kKeyBlock * plan.valueLanes);
    for (int i = 0; i < kPanelsPerGroup; ++i) {
      p[i] = scratch.take(kKeyBlock * kPanelWidth);
      ds[i] = scratch.take(kKeyBlock * kPanelWidth);
    }
  }
};

// A block of keys in pass 2.
struct KeyBlock {
  int64_t begin, count, padded;
  HeadRows k, v;
};

template <class Score>
__attribute__((noinline)) void meet(const BackwardCall& call, const Score& score, const Band& band,
                                    const KeyBlock& keys, const QueryPanel& panel, int64_t row,
                                    float* p, float* ds) {
  const BackwardPlan& plan = call.plan;
  LaneBounds bounds;
  const int64_t last = row + panel.rows - 1;
  if (band.first(last) <= keys.begin && band.end(row) >= keys.begin + keys.padded) {
    weightTile<false>(score, keys.k, plan.dim, keys.begin, keys.padded, panel, bounds, p, ds);
  } else {
    for (int64_t i = 0; i < kPanelWidth; ++i) {
      bounds.lo[i] = i < panel.rows ? static_cast<int32_t>(band.first(row + i)) : 0;
      bounds.hi[i] = i < panel.rows ? static_cast<int32_t>(band.end(row + i)) : 0;
    }
    weightTile<true>(score, keys.k, plan.dim, keys.begin, keys.padded, panel, bounds, p, ds);
  }
  gradientTile<Score>(keys.v, plan.valueDim, keys.padded, panel, p, ds);
  addQueryGradient(keys.k, plan.dim, keys.count, ds, panel.dqt);
}

// Pass 2.
template <class Score>
void keyRange(const BackwardCall& call, const Score& score, int64_t head, int64_t range,
              KeyScratch& scratch) {
  const ops::AttentionBackward& p = call.p;
  const BackwardPlan& plan = call.plan;
  const int64_t b = (call.firstHead + head) / p.keyHeads(),
                g = (call.firstHead + head) % p.keyHeads();
  const Band& band = call.bands[static_cast<size_t>(b)];
  const int64_t begin = range * plan.rangeKeys, end = std::min(begin + plan.rangeKeys, plan.m);
  const int64_t valid = std::clamp(band.keys, begin, end);

  const Range touched = call.panelsOf(band, range);
  for (int64_t h = 0; h < plan.group; ++h) {
    for (int64_t i = touched.begin; i < touched.end; ++i) {
      std::memset(call.panel(head, h, i, range).dqt, 0,
                  static_cast<size_t>(plan.dimRows * kPanelWidth) * sizeof(float));
    }
  }
  for (int64_t j = begin; j < valid; j += kKeyBlock) {
    const int64_t count = std::min(kKeyBlock, valid - j), padded = roundUp(count, kTileRows);
    const KeyBlock keys{j, count, padded,
                        denseRows(call.k, b, g, j, count, scratch.k, plan.dimRows, padded),
                        denseRows(call.v, b, g, j, count, scratch.v, plan.valueDim, padded)};
    std::memset(scratch.gradK, 0, static_cast<size_t>(padded * plan.dimLanes) * sizeof(float));
    std::memset(scratch.gradV, 0, static_cast<size_t>(padded * plan.valueLanes) * sizeof(float));
    const Range queries = band.queriesOf(j, j + count);
    for (int64_t h = 0; h < plan.group && !queries.empty(); ++h) {
      const int64_t lastPanel = (queries.end + kPanelWidth - 1) / kPanelWidth;
      for (int64_t i = queries.begin / kPanelWidth; i < lastPanel; i += kPanelsPerGroup) {
        const int64_t panels = std::min(kPanelsPerGroup, lastPanel - i);
        HeadRows q[kPanelsPerGroup], gradO[kPanelsPerGroup];
        int64_t rows[kPanelsPerGroup];
        for (int64_t n = 0; n < panels; ++n) {
          const QueryPanel panel = call.panel(head, h, i + n, range);
          meet(call, score, band, keys, panel, (i + n) * kPanelWidth, scratch.p[n], scratch.ds[n]);
          q[n] = panel.q, gradO[n] = panel.g, rows[n] = panel.rows;
        }
        addKeyGradient(padded, panels, scratch.p, gradO, rows, scratch.gradV, plan.valueLanes);
        addKeyGradient(padded, panels, scratch.ds, q, rows, scratch.gradK, plan.dimLanes);
      }
    }
    const vf scale = vbroadcast(static_cast<float>(p.scale));
    for (int64_t at = 0; at < count * plan.dimLanes; at += kLanes) {
      vstore(scratch.gradK + at, vload(scratch.gradK + at) * scale);
    }
    unpackRows(scratch.gradK, plan.dimLanes, call.gradK, b, g, j, count);
    unpackRows(scratch.gradV, plan.valueLanes, call.gradV, b, g, j, count);
  }
  clearRows(call.gradK, b, g, valid, end);
  clearRows(call.gradV, b, g, valid, end);
}

// Pass 3.
void queryGradient(const BackwardCall& call, int64_t head, int64_t h, int64_t i, float* scratch) {
  const ops::AttentionBackward& p = call.p;
  const BackwardPlan& plan = call.plan;
  const int64_t g = call.firstHead + head, b = g / p.keyHeads(),
                queryHead = g % p.keyHeads() * plan.group + h;
  const Band& band = call.bands[static_cast<size_t>(b)];
  const int64_t row = i * kPanelWidth, end = std::min(row + kPanelWidth, plan.n);
  const QueryPanel panel = call.panel(head, h, i, 0);
  float *sum = scratch, *rows = scratch + plan.dimRows * kPanelWidth;
  std::memset(sum, 0, static_cast<size_t>(plan.dimRows * kPanelWidth) * sizeof(float));
  for (int64_t range = 0; range < plan.ranges && panel.rows > 0; ++range) {
    const Range touched = call.panelsOf(band, range);
    if (i < touched.begin || i >= touched.end) continue;
    const float* share = panel.dqt + range * plan.dimRows * kPanelWidth;
    for (int64_t at = 0; at < plan.dim * kPanelWidth; at += kLanes) {
      vstore(sum + at, vload(sum + at) + vload(share + at));
    }
  }
  const vf scale = vbroadcast(static_cast<float>(p.scale));
  for (int64_t at = 0; at < plan.dim * kPanelWidth; at += kLanes)
    vstore(sum + at, vload(sum + at) * scale);
  transposeBlock(sum, kPanelWidth, plan.dim, panel.rows, rows, plan.dimLanes);
  unpackRows(rows, plan.dimLanes, call.gradQ, b, queryHead, row, panel.rows);
  clearRows(call.gradQ, b, queryHead, row + panel.rows, end);
}

void run(BackwardCall& call, Context& context) {
  const BackwardPlan& plan = call.plan;
  dispatchScore(call.p, [&](auto score) {
    for (call.firstHead = 0; call.firstHead < plan.heads; call.firstHead += plan.wave) {
      const int64_t wave = std::min(plan.wave, plan.heads - call.firstHead);
      const int64_t panels = plan.group * plan.panels;
      const auto memory = [&](int thread) { return call.threads + thread * plan.threadFloats; };
      context.pool.forEach(wave * panels, [&](int64_t item, int thread) {
        preparePanel(call, item / panels, item % panels / plan.panels, item % plan.panels,
                     memory(thread));
      });
      // Causal masks make the first range the longest: it starts first.
      context.pool.forEach(wave * plan.ranges, [&](int64_t item, int thread) {
        KeyScratch scratch(memory(thread), plan);
        keyRange(call, score, item % wave, item / wave, scratch);
      });
      context.pool.forEach(wave * panels, [&](int64_t item, int thread) {
        queryGradient(call, item / panels, item % panels / plan.panels, item % plan.panels,
                      memory(thread));
      });
    }
  });
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
  float* memory = reinterpret_cast<float*>(context.workspace.data);
  BackwardCall call{p,
                    plan,
                    p.headMajor(p.q),
                    p.headMajor(p.k),
                    p.headMajor(p.v),
                    p.headMajor(p.o),
                    p.gradO.defined() ? p.headMajor(p.gradO) : TensorView{},
                    p.headMajor(p.gradQ),
                    p.headMajor(p.gradK),
                    p.headMajor(p.gradV),
                    std::move(bands),
                    memory,
                    memory + plan.wave * plan.headFloats};
  run(call, context);
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
