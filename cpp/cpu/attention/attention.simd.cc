// Exact attention, forward: panels of queries walk over tiles of keys (panel.h); no score leaves
// the first-level cache.
//
// Cost per visible pair: 2 (D + Dv) FLOPs and one exponential. Bytes: q, o once; k, v once per
// block of up to eight panels. Work items are (batch entry, head, block of panels), the longest
// first; an item's arithmetic depends on its queries alone.
#include "cpp/ops/attention/attention.h"

#include "cpp/cpu/attention/band.h"
#include "cpp/cpu/attention/double.h"
#include "cpp/cpu/attention/panel.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int kMostPanels = 8;

// Panels that share a tile of keys. More of them pack and read k and v less often, fewer keep their
// state nearer and balance better.
int panelsPerBlock(const ops::Attention& p, int width, int threads) {
  const int64_t n = p.queries();
  const bool packed = !isDense(p.headMajor(p.k)) || !isDense(p.headMajor(p.v));
  int panels = n > 1024 ? packed ? kMostPanels : kMostPanels / 2 : n > 512 ? 2 : 1;
  const int64_t heads = p.batch() * p.queryHeads();
  while (panels > 1 && heads * ((n + width * panels - 1) / (width * panels)) < 4 * threads)
    panels /= 2;
  return panels;
}

template <int NR>
struct Block {
  Panel<NR> panels[kMostPanels];
  float *k, *v, *p, *out;

  Block(Scratch& scratch, const ops::Attention& problem, int count) {
    const int64_t dim = problem.dim(), valueDim = problem.valueDim(), width = Panel<NR>::kWidth;
    for (int i = 0; i < count; ++i) panels[i].takeScratch(scratch, dim, valueDim);
    p = scratch.take(kKeyTile * width);
    k = scratch.take(kKeyTile * dim);
    v = scratch.take(kKeyTile * Panel<NR>::paddedDim(valueDim));
    out = scratch.take(width * roundUp(std::max(dim, valueDim), kLanes));
  }
};

// What every item of a call shares.
struct ForwardCall {
  const ops::Attention& p;
  TensorView q, k, v, o;
  std::vector<Band> bands;
};

template <int NR>
void writePanel(const ForwardCall& call, Panel<NR>& panel, int64_t b, int64_t h, int64_t row,
                float* out) {
  constexpr int64_t width = Panel<NR>::kWidth;
  const int64_t valueDim = panel.valueDim, rows = panel.rows;
  panel.normalize();
  if (hasF32Rows(call.o) && valueDim % kLanes == 0) {
    transposeBlock(panel.ot, width, valueDim, rows, const_cast<float*>(f32Row(call.o, b, h, row)),
                   call.o.stride[2]);
  } else {
    const int64_t padded = roundUp(valueDim, kLanes);
    transposeBlock(panel.ot, width, valueDim, rows, out, padded);
    unpackRows(out, padded, call.o, b, h, row, rows);
  }
  if (call.p.lse.defined()) {
    float lse[width];
    panel.logSumExp(lse);
    std::memcpy(call.p.lse.data<float>() + (b * call.p.queryHeads() + h) * call.p.queries() + row,
                lse, static_cast<size_t>(rows) * sizeof(float));
  }
}

// Queries at and beyond the valid length: 0 and -inf.
void clearPadding(const ForwardCall& call, int64_t b, int64_t h, int64_t begin, int64_t end) {
  if (begin >= end) return;
  clearRows(call.o, b, h, begin, end);
  if (!call.p.lse.defined()) return;
  float* lse = call.p.lse.data<float>() + (b * call.p.queryHeads() + h) * call.p.queries();
  std::fill(lse + begin, lse + end, -std::numeric_limits<float>::infinity());
}

template <int NR, class Score>
void attendBlock(const ForwardCall& call, const Score& score, int64_t b, int64_t h, int64_t begin,
                 int64_t end, Block<NR>& block) {
  constexpr int64_t width = Panel<NR>::kWidth;
  const Band& band = call.bands[static_cast<size_t>(b)];
  const int64_t valid = std::min(end, band.queries);
  const int64_t shared = h / (call.p.queryHeads() / call.p.keyHeads());
  const int64_t dim = call.p.dim(), valueDim = call.p.valueDim();

  int count = 0;
  for (int64_t row = begin; row < valid; row += width, ++count) {
    const int64_t rows = std::min(width, valid - row);
    const HeadRows q = hasF32Rows(call.q)
                           ? HeadRows{f32Row(call.q, b, h, row), call.q.stride[2]}
                           : denseRows(call.q, b, h, row, rows, block.out, dim, rows);
    block.panels[count].start(q, rows, [&](int64_t lane) {
      return Range{band.first(row + lane), band.end(row + lane)};
    });
  }
  // Tiles start at multiples of their size, so that the way queries are grouped changes nothing.
  const Range seen = band.keysOf(begin, valid);
  for (int64_t j = seen.begin / kKeyTile * kKeyTile; j < seen.end; j += kKeyTile) {
    const int64_t keys = std::min(kKeyTile, seen.end - j);
    constexpr int64_t rows = Panel<NR>::kRows;
    const KeyTile tile{
        j, keys, denseRows(call.k, b, shared, j, keys, block.k, dim, roundUp(keys, rows)),
        denseRows(call.v, b, shared, j, keys, block.v, Panel<NR>::paddedDim(valueDim), keys)};
    RowsAhead ahead(call.k, call.v, b, shared, j + keys, std::min(kKeyTile, seen.end - j - keys),
                    (rows + count - 1) / count);
    for (int i = 0; i < count; ++i) block.panels[i].step(score, tile, block.p, ahead);
  }
  for (int i = 0; i < count; ++i)
    writePanel(call, block.panels[i], b, h, begin + i * width, block.out);
  clearPadding(call, b, h, std::max(begin, std::min(valid, end)), end);
}

template <int NR>
void run(const ForwardCall& call, Context& context) {
  const ops::Attention& p = call.p;
  const int64_t n = p.queries(), heads = p.queryHeads();
  const int panels = panelsPerBlock(p, Panel<NR>::kWidth, context.pool.size());
  const int64_t rows = static_cast<int64_t>(panels) * Panel<NR>::kWidth;
  const int64_t blocks = (n + rows - 1) / rows;
  const int64_t perThread =
      static_cast<int64_t>(context.workspace.bytes / sizeof(float)) / context.pool.size();
  dispatchScore(p, [&](auto score) {
    context.pool.forEach(p.batch() * heads * blocks, [&](int64_t item, int thread) {
      Scratch scratch{reinterpret_cast<float*>(context.workspace.data) + thread * perThread};
      Block<NR> block(scratch, p, panels);
      const int64_t head = item / blocks, begin = (blocks - 1 - item % blocks) * rows;
      attendBlock(call, score, head / heads, head % heads, begin, std::min(n, begin + rows), block);
    });
  });
}

template <int NR>
size_t bytesPerThread(const ops::Attention& p, int threads) {
  Scratch scratch;
  Block<NR> block(scratch, p, panelsPerBlock(p, Panel<NR>::kWidth, threads));
  return static_cast<size_t>(scratch.used) * sizeof(float);
}

// A few queries fill one vector only.
bool isNarrow(const ops::Attention& p) { return p.queries() <= kLanes; }

}  // namespace

size_t attentionWorkspace(const ops::Attention& p, int threads) {
  if (p.q.dtype == DType::f64) return 0;
  const size_t bytes =
      isNarrow(p) ? bytesPerThread<1>(p, threads) : bytesPerThread<kTileVectors>(p, threads);
  return bytes * static_cast<size_t>(threads);
}

Status attention(const ops::Attention& p, Context& context) {
  ForwardCall call{p, p.headMajor(p.q), p.headMajor(p.k), p.headMajor(p.v), p.headMajor(p.o), {}};
  LONGSPAN_RETURN_IF_ERROR(bandsOf(p, call.bands));
  if (p.q.dtype == DType::f64) {
    attentionDouble(p, p.o, p.lse, call.bands, context);
  } else if (isNarrow(p)) {
    run<1>(call, context);
  } else {
    run<kTileVectors>(call, context);
  }
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
