// Exact attention, forward: panels of queries walk over tiles of keys (panel.h); no score leaves
// the first-level cache.
//
// Cost per visible pair: 2 (D + Dv) FLOPs and one exponential. Bytes: q, o once; k, v once per
// block of up to eight panels. Work items are (head, sequence, block of panels), the longest first;
// an item's arithmetic depends on its queries alone.
#include "cpp/ops/attention/attention.h"

#include "cpp/cpu/attention/band.h"
#include "cpp/cpu/attention/double.h"
#include "cpp/cpu/attention/panel.h"
#include "cpp/cpu/attention/terms.h"

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
  float *k, *v, *p, *out, *terms;

  Block(Scratch& scratch, const ops::Attention& problem, int count) {
    const int64_t dim = problem.dim(), valueDim = problem.valueDim(), width = Panel<NR>::kWidth;
    for (int i = 0; i < count; ++i) panels[i].takeScratch(scratch, dim, valueDim);
    p = scratch.take(kKeyTile * width);
    k = scratch.take(kKeyTile * dim);
    v = scratch.take(kKeyTile * Panel<NR>::paddedDim(valueDim));
    out = scratch.take(width * roundUp(std::max(dim, valueDim), kLanes));
    terms = scratch.take(Terms::floats(problem, width, kKeyTile));
  }
};

// What every item of a call shares.
struct ForwardCall {
  const ops::Attention& p;
  Terms terms;
  BlockMask mask;
  std::vector<Band> bands;
};

// One head of a sequence: its rows as those of the only batch entry.
struct Sequence {
  const Band& band;
  int64_t head, sharedHead;
  TensorView q, k, v, o;
  float* lse;

  Sequence(const ForwardCall& call, const Band& b, int64_t h)
      : band(b),
        head(h),
        sharedHead(h / (call.p.queryHeads() / call.p.keyHeads())),
        q(queryRowsOf(call.p.headMajor(call.p.q), b)),
        k(keyRowsOf(call.p.headMajor(call.p.k), b)),
        v(keyRowsOf(call.p.headMajor(call.p.v), b)),
        o(queryRowsOf(call.p.headMajor(call.p.o), b)),
        lse(call.p.lse.defined()
                ? call.p.lse.data<float>() +
                      (b.entry * call.p.queryHeads() + h) * call.p.queries() + b.queryBegin
                : nullptr) {}
};

template <int NR>
void writePanel(const Sequence& s, Panel<NR>& panel, int64_t row, float* out) {
  constexpr int64_t width = Panel<NR>::kWidth;
  const int64_t valueDim = panel.valueDim, rows = panel.rows;
  panel.normalize();
  if (hasF32Rows(s.o) && valueDim % kLanes == 0) {
    transposeRows(panel.ot, width, valueDim, rows, const_cast<float*>(f32Row(s.o, 0, s.head, row)),
                  s.o.stride[2]);
  } else {
    const int64_t padded = roundUp(valueDim, kLanes);
    transposeRows(panel.ot, width, valueDim, rows, out, padded);
    unpackRows(out, padded, s.o, 0, s.head, row, rows);
  }
  if (s.lse != nullptr) {
    float lse[width];
    panel.logSumExp(lse);
    std::memcpy(s.lse + row, lse, static_cast<size_t>(rows) * sizeof(float));
  }
}

// Queries at and beyond the valid length: 0 and -inf.
void clearPadding(const Sequence& s, int64_t begin, int64_t end) {
  if (begin >= end) return;
  clearRows(s.o, 0, s.head, begin, end);
  if (s.lse == nullptr) return;
  std::fill(s.lse + begin, s.lse + end, -std::numeric_limits<float>::infinity());
}

// Calls visit(keys of a tile, keys of the tile after it) for the tiles that queries [begin, end)
// see, which lie in one row of a block mask.
template <class F>
void forEachTile(const ForwardCall& call, const Sequence& s, int64_t begin, int64_t end,
                 F&& visit) {
  Range tile;
  const auto run = [&](int64_t first, int64_t last) {
    for (int64_t j = first; j < last; j += kKeyTile) {
      const Range next{j, std::min(last, j + kKeyTile)};
      if (!tile.empty()) visit(tile, next);
      tile = next;
    }
  };
  const Range seen = s.band.keysOf(begin, end);
  if (!call.mask.defined()) {
    // Tiles start at multiples of their size, so that the way queries are grouped changes nothing.
    run(seen.begin / kKeyTile * kKeyTile, seen.end);
  } else if (!seen.empty()) {
    const int64_t block = call.mask.block;
    const auto list = call.mask.row(s.band.entry, s.head, begin / block);
    for (size_t i = 0; i < list.size();) {
      size_t next = i + 1;  // neighbours are walked as one
      while (next < list.size() && list[next].column == list[next - 1].column + 1) ++next;
      const int64_t first = std::max<int64_t>(list[i].column * block, seen.begin / block * block);
      run(first, std::min<int64_t>((list[next - 1].column + 1) * block, seen.end));
      i = next;
    }
  }
  if (!tile.empty()) visit(tile, Range{});
}

template <int NR, class Score>
void attendBlock(const ForwardCall& call, const Score& score, const Sequence& s, int64_t begin,
                 int64_t end, Block<NR>& block) {
  constexpr int64_t width = Panel<NR>::kWidth, rows = Panel<NR>::kRows;
  const Band& band = s.band;
  const int64_t valid = std::min(end, band.queries);
  const int64_t dim = call.p.dim(), valueDim = call.p.valueDim();

  int count = 0;
  for (int64_t row = begin; row < valid; row += width, ++count) {
    const int64_t filled = std::min(width, valid - row);
    const HeadRows q = hasF32Rows(s.q)
                           ? HeadRows{f32Row(s.q, 0, s.head, row), s.q.stride[2]}
                           : denseRows(s.q, 0, s.head, row, filled, block.out, dim, filled);
    block.panels[count].start(q, filled, [&](int64_t lane) {
      return Range{band.first(row + lane), band.end(row + lane)};
    });
  }
  forEachTile(call, s, begin, valid, [&](Range seenKeys, Range next) {
    const int64_t j = seenKeys.begin, keys = seenKeys.end - j;
    const auto pairs = [&](int i) {
      return Pairs{&band, s.head, begin + i * width,  block.panels[i].rows,
                   j,     keys,   roundUp(keys, rows)};
    };
    Terms::Seen seen[kMostPanels];
    bool apart = !Score::kPlain;
    if constexpr (!Score::kPlain) {
      for (int i = 0; i < count; ++i) {
        seen[i] = call.terms.seen(pairs(i));
        apart = apart && seen[i].none;
      }
    }
    if (apart) return;
    const KeyTile tile{
        j, keys, denseRows(s.k, 0, s.sharedHead, j, keys, block.k, dim, roundUp(keys, rows)),
        denseRows(s.v, 0, s.sharedHead, j, keys, block.v, Panel<NR>::paddedDim(valueDim), keys)};
    const PageTable::Run run{0, next.begin, next.end - next.begin};
    RowsAhead ahead(s.k, s.v, s.sharedHead, &run, !next.empty(), (rows + count - 1) / count);
    for (int i = 0; i < count; ++i) {
      if constexpr (Score::kPlain) {
        block.panels[i].step(score, tile, block.p, ahead);
      } else if (!seen[i].none && block.panels[i].meets(j, keys)) {
        const TermTiles terms = call.terms.tiles(pairs(i), seen[i], width, block.terms);
        if (terms.none() && !score.capped) {
          block.panels[i].step(score.plain(), tile, block.p, ahead);
        } else {
          block.panels[i].step(score, tile, block.p, ahead, terms);
        }
      }
    }
  });
  for (int i = 0; i < count; ++i) {
    if (call.p.sinks.defined()) {
      const TensorView& sinks = call.p.sinks;
      float logits[width];
      std::fill_n(logits, width,
                  sinks.data<float>()[s.head * sinks.stride[0]] * static_cast<float>(kLog2E));
      block.panels[i].sink(logits);
    }
    writePanel(s, block.panels[i], begin + i * width, block.out);
  }
  clearPadding(s, std::max(begin, std::min(valid, end)), end);
}

struct QueryBlock {
  const Band* band;
  int64_t begin, end;
};

// Blocks of at most `rows` queries, each in one row of the mask.
void splitByMask(const ForwardCall& call, int64_t rows, std::vector<QueryBlock>& blocks) {
  blocks.clear();
  for (const Band& band : call.bands) {
    for (int64_t row = 0; row < band.queryRows; row += call.mask.block) {
      const int64_t last = std::min(band.queryRows, row + call.mask.block);
      for (int64_t begin = row; begin < last; begin += rows)
        blocks.push_back({&band, begin, std::min(last, begin + rows)});
    }
  }
}

template <int NR>
void run(const ForwardCall& call, Context& context) {
  const ops::Attention& p = call.p;
  const int panels = panelsPerBlock(p, Panel<NR>::kWidth, context.pool.size());
  const int64_t rows = static_cast<int64_t>(panels) * Panel<NR>::kWidth;
  // Blocks of all sequences, the last of each first.
  std::vector<QueryBlock> blocks;
  for (const Band& band : call.bands) {
    for (int64_t i = (band.queryRows + rows - 1) / rows; i > 0; --i)
      blocks.push_back({&band, (i - 1) * rows, std::min(band.queryRows, i * rows)});
  }
  if (call.mask.defined()) splitByMask(call, rows, blocks);
  const auto count = static_cast<int64_t>(blocks.size());
  const int64_t perThread =
      static_cast<int64_t>(context.workspace.bytes / sizeof(float)) / context.pool.size();
  dispatchScore(p, [&](auto score) {
    context.pool.forEach(p.queryHeads() * count, [&](int64_t item, int thread) {
      Scratch scratch{reinterpret_cast<float*>(context.workspace.data) + thread * perThread};
      Block<NR> block(scratch, p, panels);
      const QueryBlock& queries = blocks[static_cast<size_t>(item % count)];
      attendBlock(call, score, Sequence(call, *queries.band, item / count), queries.begin,
                  queries.end, block);
    });
  });
}

template <int NR>
size_t bytesPerThread(const ops::Attention& p, int threads) {
  Scratch scratch;
  Block<NR> block(scratch, p, panelsPerBlock(p, Panel<NR>::kWidth, threads));
  return static_cast<size_t>(scratch.used) * sizeof(float);
}

// Calls f with the vectors of a panel as a constant: no more than a few queries, or a block of a
// mask, fill.
template <class F>
decltype(auto) dispatchWidth(const ops::Attention& p, F&& f) {
  const int64_t rows = p.maskRows.defined() ? std::min(p.maskBlock, p.queries()) : p.queries();
  if (rows <= kLanes) return f(std::integral_constant<int, 1>{});
  if constexpr (kTileVectors > 2) {
    if (p.maskRows.defined() && rows < Panel<kTileVectors>::kWidth)
      return f(std::integral_constant<int, 2>{});
  }
  return f(std::integral_constant<int, kTileVectors>{});
}

}  // namespace

size_t attentionWorkspace(const ops::Attention& p, int threads) {
  if (p.q.dtype == DType::f64) return 0;
  return dispatchWidth(p, [&](auto vectors) { return bytesPerThread<vectors>(p, threads); }) *
         static_cast<size_t>(threads);
}

Status attention(const ops::Attention& p, Context& context) {
  ForwardCall call{p, Terms(p), BlockMask(p), {}};
  LONGSPAN_RETURN_IF_ERROR(bandsOf(p, call.bands));
  if (p.q.dtype == DType::f64) {
    attentionDouble(p, p.o, p.lse, call.bands, context);
  } else {
    dispatchWidth(p, [&](auto vectors) { run<vectors>(call, context); });
  }
  return {};
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
