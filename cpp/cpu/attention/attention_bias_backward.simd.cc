// The gradient of the bias of exact attention: dS, summed over whatever the bias is repeated over.
//
// An item is a tile of the gradient, up to kKeyBlock keys by kPanelWidth queries; where the bias is
// repeated along an axis, the item walks along it and the sum stays in its tile. Every element is
// summed by one item in one order: deterministic, and no matrix of scores.
//
// Cost per visible pair: 2 (D + Dv) FLOPs and one exponential, on top of the backward pass.
#include "cpp/ops/attention/attention_bias_backward.h"

#include "cpp/cpu/attention/backward_panel.h"
#include "cpp/cpu/attention/double.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

// Steps along an axis of the scores: of an item, and of all items.
struct Axis {
  int64_t items, steps;
  Axis(bool summed, int64_t count) : items(summed ? 1 : count), steps(summed ? count : 1) {}
};

struct BiasCall {
  const ops::AttentionBiasBackward& p;
  PanelLayout layout;
  TensorView target;
  GeneralScore score;
  Axis entries, heads, panels, blocks;

  explicit BiasCall(const ops::AttentionBiasBackward& params)
      : p(params),
        layout(params),
        target(params.target()),
        score(params),
        entries(summed(0), p.batch()),
        heads(summed(1), p.queryHeads()),
        panels(summed(2), (p.queries() + kPanelWidth - 1) / kPanelWidth),
        blocks(summed(3), (p.keys() + kKeyBlock - 1) / kKeyBlock) {
    // The bias comes after the softcap, whose slope does not touch its gradient.
    score.sloped = false;
  }

  bool summed(int axis) const { return target.stride[axis] == 0 && target.shape[axis] != 1; }
  int64_t items() const { return entries.items * heads.items * panels.items * blocks.items; }
};

struct BiasScratch {
  float *panel, *rows, *k, *v, *p, *ds, *terms, *sum;
  int64_t floats;
  BiasScratch(float* memory, const BiasCall& call) {
    const PanelLayout& layout = call.layout;
    Scratch scratch{memory};
    panel = scratch.take(layout.floats(0));
    rows = scratch.take(kPanelWidth * layout.valueLanes);
    k = scratch.take(kKeyBlock * layout.dimRows);
    v = scratch.take(kKeyBlock * layout.valueDim);
    p = scratch.take(kKeyBlock * kPanelWidth);
    ds = scratch.take(kKeyBlock * kPanelWidth);
    terms = scratch.take(Terms::floats(call.p, kPanelWidth, kKeyBlock));
    sum = scratch.take(kKeyBlock * kPanelWidth);
    floats = scratch.used;
  }
};

// sum += dS of panel i and block j of head h.
void addTile(const BiasCall& call, const Terms& terms, const GradientRows& rows, int64_t h,
             int64_t i, int64_t j, const QueryPanel& panel, const BiasScratch& scratch) {
  const Band& band = rows.band;
  const int64_t row = i * kPanelWidth, begin = j * kKeyBlock;
  const int64_t count = std::min(kKeyBlock, band.keys - begin);
  if (panel.rows == 0 || count <= 0) return;
  const Range seen = band.keysOf(row, row + panel.rows);
  if (seen.end <= begin || seen.begin >= begin + count) return;
  const int64_t g = h / (call.p.queryHeads() / call.p.keyHeads());
  const KeyBlock keys = keyBlock(rows, call.layout, g, begin, count, scratch.k, scratch.v);
  const Pairs pairs{&band, h, row, panel.rows, begin, count, keys.padded};
  if (!scoreGradients(call.score, terms, call.layout, pairs, keys, panel, scratch.p, scratch.ds,
                      scratch.terms)) {
    return;
  }
  for (int64_t at = 0; at < count * kPanelWidth; at += kLanes) {
    vstore(scratch.sum + at, vload(scratch.sum + at) + vload(scratch.ds + at));
  }
}

// Writes the tile of panel i and block j, which all panels or blocks share where these are summed.
void writeTile(const BiasCall& call, int64_t b, int64_t h, int64_t i, int64_t j, float* sum) {
  const TensorView& t = call.target;
  int64_t queries = std::min<int64_t>(kPanelWidth, t.shape[2] - i * kPanelWidth);
  int64_t keys = std::min<int64_t>(kKeyBlock, t.shape[3] - j * kKeyBlock);
  if (call.summed(3)) {
    for (int64_t key = 1; key < kKeyBlock; ++key) {
      for (int64_t lane = 0; lane < kPanelWidth; ++lane) sum[lane] += sum[key * kPanelWidth + lane];
    }
    keys = 1;
  }
  if (call.summed(2)) {
    for (int64_t key = 0; key < keys; ++key) {
      float* row = sum + key * kPanelWidth;
      for (int64_t lane = 1; lane < kPanelWidth; ++lane) row[0] += row[lane];
    }
    queries = 1;
  }
  dispatchFloating(t.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (!std::is_same_v<T, double>) {
      T* out = t.data<T>() + b * t.stride[0] + h * t.stride[1] + i * kPanelWidth * t.stride[2] +
               j * kKeyBlock * t.stride[3];
      for (int64_t lane = 0; lane < queries; ++lane) {
        for (int64_t key = 0; key < keys; ++key) {
          out[lane * t.stride[2] + key * t.stride[3]] = store<T>(sum[key * kPanelWidth + lane]);
        }
      }
    }
  });
}

void sumTile(const BiasCall& call, const Terms& terms, const std::vector<GradientRows>& sequences,
             int64_t item, const BiasScratch& scratch) {
  const auto take = [&](const Axis& axis) {
    const int64_t at = item % axis.items;
    item /= axis.items;
    return at;
  };
  const int64_t j0 = take(call.blocks), i0 = take(call.panels), h0 = take(call.heads),
                b0 = take(call.entries);
  std::memset(scratch.sum, 0, kKeyBlock * kPanelWidth * sizeof(float));
  for (int64_t b = b0; b < b0 + call.entries.steps; ++b) {
    const GradientRows& rows = sequences[static_cast<size_t>(b)];
    for (int64_t h = h0; h < h0 + call.heads.steps; ++h) {
      for (int64_t i = i0; i < i0 + call.panels.steps; ++i) {
        const int64_t row = i * kPanelWidth;
        const QueryPanel panel = call.layout.panel(rows, h, row, scratch.panel, 0, 0);
        preparePanel(rows, call.layout, h, row, panel, scratch.rows);
        for (int64_t j = j0; j < j0 + call.blocks.steps; ++j)
          addTile(call, terms, rows, h, i, j, panel, scratch);
      }
    }
  }
  writeTile(call, b0, h0, i0, j0, scratch.sum);
}

}  // namespace

size_t attentionBiasBackwardWorkspace(const ops::AttentionBiasBackward& p, int threads) {
  if (p.q.dtype == DType::f64) return 0;
  return static_cast<size_t>(threads * BiasScratch(nullptr, BiasCall(p)).floats) * sizeof(float);
}

Status attentionBiasBackward(const ops::AttentionBiasBackward& p, Context& context) {
  std::vector<Band> bands;
  LONGSPAN_RETURN_IF_ERROR(bandsOf(p, bands));
  if (p.q.dtype == DType::f64) {
    attentionBiasBackwardDouble(p, bands, context);
    return {};
  }
  std::vector<GradientRows> sequences;
  sequences.reserve(bands.size());
  for (const Band& band : bands) sequences.emplace_back(p, band);
  const BiasCall call(p);
  const Terms terms(p);
  float* memory = reinterpret_cast<float*>(context.workspace.data);
  const int64_t floats = BiasScratch(nullptr, call).floats;
  context.pool.forEach(call.items(), [&](int64_t item, int thread) {
    sumTile(call, terms, sequences, item, BiasScratch(memory + thread * floats, call));
  });
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
