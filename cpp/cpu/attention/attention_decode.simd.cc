// Exact attention of a few new tokens against a cache.
//
// The query heads that share a key head, times the new tokens, are the lanes of one panel
// (panel.h), so that each key is read once for all of them. Few heads and a long cache: keys are
// split among work items and the partial results merged in order. The split follows from shapes and
// lengths alone.
//
// Cost per visible key and lane: 2 (D + Dv) FLOPs. Bytes: the valid part of the cache, once.
#include "cpp/ops/attention/attention_decode.h"

#include "cpp/cpu/attention/band.h"
#include "cpp/cpu/attention/double.h"
#include "cpp/cpu/attention/panel.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int64_t kSplitItems = 16;  // work items worth having
constexpr int64_t kLeastKeys = 256;  // of one split

// Nearly all queries see nearly all keys.
template <int NR>
using DecodePanel = Panel<NR, false>;

template <int NR>
struct DecodePlan {
  using P = DecodePanel<NR>;
  static constexpr int64_t kWidth = P::kWidth;
  int64_t group, lanes, panels, splits, statesFloats, threadFloats;

  explicit DecodePlan(const ops::AttentionDecode& p) {
    group = p.queryHeads() / p.keyHeads();
    lanes = group * p.queries();
    panels = (lanes + kWidth - 1) / kWidth;
    const int64_t items = std::max<int64_t>(1, p.batch() * p.keyHeads() * panels);
    splits = std::clamp<int64_t>((kSplitItems + items - 1) / items, 1,
                                 std::max<int64_t>(1, p.keys() / kLeastKeys));
    // O^T, maxima and sums of one split.
    statesFloats = roundUp((P::paddedDim(p.valueDim()) + 2) * kWidth, 16);
    Scratch scratch;
    scratch.take(p.dim() * kWidth), scratch.take(kKeyTile * kWidth);
    scratch.take(kKeyTile * p.dim()), scratch.take(kKeyTile * P::paddedDim(p.valueDim()));
    scratch.take(kWidth * roundUp(std::max(p.dim(), p.valueDim()), kLanes));
    threadFloats = scratch.used;
  }
  int64_t states(const ops::AttentionDecode& p) const {
    return p.batch() * p.keyHeads() * panels * splits;
  }
};

template <int NR>
struct Decoder {
  using P = DecodePanel<NR>;
  const ops::AttentionDecode& p;
  const DecodePlan<NR> plan;
  std::vector<Band> bands;
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

  // Item: (batch entry, key head, panel, split).
  float* state(int64_t item) const { return states + item * plan.statesFloats; }

  template <class Score>
  void attend(const Score& score, int64_t item, int thread) const {
    const int64_t split = item % plan.splits, i = item / plan.splits % plan.panels;
    const int64_t head = item / plan.splits / plan.panels, b = head / p.keyHeads(),
                  g = head % p.keyHeads();
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

    int64_t lanes = 0, bounds[P::kWidth];
    forEachRun(g, i, [&](int64_t lane, int64_t queryHead, int64_t token, int64_t count) {
      packRows(p.q, b, queryHead, token, count, rows + lane * dim, dim, count);
      for (int64_t n = 0; n < count; ++n) bounds[lane + n] = token + n;
      lanes = lane + count;
    });
    const Band& band = bands[static_cast<size_t>(b)];
    panel.start(HeadRows{rows, dim}, lanes, [&](int64_t lane) {
      return bounds[lane] < band.queries ? Range{band.first(bounds[lane]), band.end(bounds[lane])}
                                         : Range{};
    });
    const int64_t share =
        std::max(kLeastKeys, roundUp((band.keys + plan.splits - 1) / plan.splits, kKeyTile));
    const int64_t begin = std::max(split * share, panel.range.begin / kKeyTile * kKeyTile);
    const int64_t end = std::min((split + 1) * share, panel.range.end);
    for (int64_t j = begin; j < end; j += kKeyTile) {
      const int64_t count = std::min(kKeyTile, end - j);
      const KeyTile tile{j, count,
                         denseRows(p.k, b, g, j, count, keys, dim, roundUp(count, P::kRows)),
                         denseRows(p.v, b, g, j, count, values, P::paddedDim(valueDim), count)};
      RowsAhead ahead(p.k, p.v, b, g, j + count, std::min(kKeyTile, end - j - count), P::kRows);
      panel.step(score, tile, weights, ahead);
    }
    if (plan.splits == 1) {
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
    panel.ot = state(item * plan.splits);
    panel.restore(panel.ot + statistics);
    for (int64_t split = 1; split < plan.splits; ++split) {
      const float* other = state(item * plan.splits + split);
      panel.absorb(other, other + statistics);
    }
    write(panel, head / p.keyHeads(), head % p.keyHeads(), i, threads + thread * plan.threadFloats);
  }

  void write(P& panel, int64_t b, int64_t g, int64_t i, float* rows) const {
    const int64_t width = roundUp(p.valueDim(), kLanes);
    panel.normalize();
    transposeBlock(panel.ot, P::kWidth, p.valueDim(), panel.rows, rows, width);
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
  const Decoder<NR> decoder{p, plan, std::move(bands), memory,
                            memory + plan.states(p) * plan.statesFloats};
  dispatchScore(p, [&](auto score) {
    context.pool.forEach(plan.states(p),
                         [&](int64_t item, int thread) { decoder.attend(score, item, thread); });
  });
  if (plan.splits == 1) return;
  context.pool.forEach(plan.states(p) / plan.splits,
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
