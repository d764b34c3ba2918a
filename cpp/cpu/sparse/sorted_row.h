// Rows of sorted attention over the rounds, and single rows as decoding steps compute them.
#pragma once

#include "cpp/cpu/attention/panel.h"
#include "cpp/cpu/sparse/sorted_double.h"
#include "cpp/cpu/sparse/sorted_tile.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

// Puts a panel's result beside what earlier rounds gave its lanes (Milakov and Gimelshein 2018):
// brings maxima (base 2) and sums up to date, divides the panel's output by the new sums, and gives
// the factors of the earlier outputs.
template <int NR>
inline void mergeLanes(Panel<NR>& panel, float* maximum, float* sum, float* before) {
  constexpr int64_t width = Panel<NR>::kWidth;
  for (int v = 0; v < NR; ++v) {
    const vf m0 = vload(maximum + v * kLanes), s0 = vload(sum + v * kLanes);
    const vf m1 = panel.maximum[v], s1 = panel.sum[v];
    const vi none = s0 == 0.0f, nothing = s1 == 0.0f;
    const vf top = vselect(none, m1, vselect(nothing, m0, vmax(m0, m1)));
    const vf old = vselect(none, vf{}, s0 * vexp2Fast(m0 - top));
    const vf own = vselect(nothing, vf{}, vexp2Fast(m1 - top));
    const vf total = old + s1 * own;
    const vf inverse = vselect(total == 0.0f, vf{}, 1.0f / total);
    vstore(maximum + v * kLanes, top);
    vstore(sum + v * kLanes, total);
    vstore(before + v * kLanes, old * inverse);
    const vf factor = own * inverse;
    for (int64_t d = 0; d < panel.valueDim; ++d) {
      float* o = panel.ot + d * width + v * kLanes;
      vstore(o, vload(o) * factor);
    }
  }
}

// target = factor target + source; what a factor of 0 leaves out is not read.
inline void combineRow(float* target, float factor, const float* source, int64_t dim) {
  if (factor == 0.0f) {
    std::memcpy(target, source, static_cast<size_t>(dim) * sizeof(float));
    return;
  }
  int64_t d = 0;
  for (; d + kLanes <= dim; d += kLanes) {
    vstore(target + d, vfma(vload(target + d), vbroadcast(factor), vload(source + d)));
  }
  for (; d < dim; ++d) target[d] = factor * target[d] + source[d];
}

// The row of one query, to the bit as the forward kernel computes it: a panel with one lane, and
// tiles that begin at the ranks at which those of the whole group do. Of a vector's lanes one is
// used, which costs a step less than its calls do.
class SortedRow {
 public:
  static int64_t floats(int64_t dim, int64_t valueDim) {
    Scratch scratch;
    const SortedRow row(scratch, dim, valueDim);
    return roundUp(scratch.used, 16);
  }
  SortedRow(Scratch& scratch, int64_t dim, int64_t valueDim) : dim_(dim), valueDim_(valueDim) {
    const int64_t padded = roundUp(valueDim, kRowPadding);
    panel_.takeScratch(scratch, dim, valueDim);
    query_ = scratch.take(dim);
    p_ = scratch.take(kSortedKeys * kLanes);
    terms_ = scratch.take(kSortedKeys * kLanes);
    k_ = scratch.take(kSortedKeys * dim);
    v_ = scratch.take(kSortedKeys * padded);
    own_ = scratch.take(roundUp(valueDim, kLanes));
    out_ = scratch.take(roundUp(valueDim, kLanes));
  }

  void start(const TensorView& q, int64_t b, int64_t h, int64_t token) {
    b_ = b;
    h_ = h;
    token_ = token;
    packRows(q, b, h, token, 1, query_, dim_, 1);
    std::memset(terms_, 0, static_cast<size_t>(kSortedKeys * kLanes) * sizeof(float));
    std::fill_n(sum_, kLanes, 0.0f);
    std::fill_n(maximum_, kLanes, 0.0f);
  }

  // Takes the keys of one round. f(rank) of a rank in `seen`: rowOf gives the row of its key in k
  // and v, countOf in how many rounds it is seen; the key of rank `self` is the query's own.
  template <class RowOf, class CountOf>
  void round(const SortedTerms& terms, const ops::SortedAttentionProblem& p, const TensorView& k,
             const TensorView& v, Places seen, int64_t self, RowOf&& rowOf, CountOf&& countOf) {
    if (seen.size() <= 0) return;
    panel_.start(HeadRows{query_, dim_}, 1, [&](int64_t) { return Range{seen.begin, seen.end}; });
    const GeneralScore score = sortedScore(p);
    const int64_t width = roundUp(valueDim_, kRowPadding);
    for (int64_t begin = seen.begin / kSortedKeys * kSortedKeys; begin < seen.end;
         begin += kSortedKeys) {
      const int64_t count = std::min(kSortedKeys, seen.end - begin);
      const int64_t padded = roundUp(count, kRowPadding);
      // Ranks before those seen are masked, whatever stands there.
      for (int64_t j = 0; j < count; ++j) {
        rows_[j] = static_cast<int32_t>(rowOf(std::max(begin + j, seen.begin)));
      }
      gatherRows(k, b_, h_, count, rows_, k_, dim_, padded);
      gatherRows(v, b_, h_, count, rows_, v_, width, padded);
      const KeyTile tile{begin, count, {k_, dim_}, {v_, width}};
      TermTiles tiles;
      if (p.hasTerms()) {
        for (int64_t j = 0; j < padded; ++j) {
          const int64_t rank = begin + j;
          const bool isSeen = rank >= seen.begin && rank < seen.end;
          terms_[j * kLanes] = isSeen ? terms.added(countOf(rank), rank == self) : 0.0f;
        }
        tiles.added = {terms_, kLanes};
      }
      RowsAhead ahead;
      panel_.step(score, tile, p_, ahead, tiles);
    }
    alignas(64) float before[kLanes];
    mergeLanes(panel_, maximum_, sum_, before);
    for (int64_t d = 0; d < valueDim_; ++d) own_[d] = panel_.ot[d * kLanes];
    combineRow(out_, before[0], own_, valueDim_);
  }

  void finish(const TensorView& o) {
    if (sum_[0] == 0.0f) std::fill_n(out_, valueDim_, 0.0f);
    unpackRows(out_, valueDim_, o, b_, h_, token_, 1);
  }

 private:
  int64_t dim_, valueDim_;
  int64_t b_ = 0, h_ = 0, token_ = 0;
  Panel<1> panel_;
  float *query_, *p_, *terms_, *k_, *v_, *own_, *out_;
  alignas(64) float maximum_[kLanes], sum_[kLanes];
  int32_t rows_[kSortedKeys];  // of a tile's keys
};

// The same in f64.
class SortedDoubleRow : public DoubleRow {
 public:
  static int64_t floats(int64_t, int64_t) { return 0; }
  SortedDoubleRow(Scratch&, int64_t, int64_t) {}
  template <class RowOf, class CountOf>
  void round(const SortedTerms&, const ops::SortedAttentionProblem& p, const TensorView& k,
             const TensorView& v, Places seen, int64_t self, RowOf&& rowOf, CountOf&& countOf) {
    for (int64_t rank = seen.begin; rank < seen.end; ++rank) {
      add(p, k, v, rowOf(rank), p.corrects() ? countOf(rank) : 1, rank == self);
    }
  }
};

// Calls f with the row type for tensors of `dtype`, as a null pointer.
template <class F>
decltype(auto) dispatchRow(DType dtype, F&& f) {
  if (dtype == DType::f64) return f(static_cast<SortedDoubleRow*>(nullptr));
  return f(static_cast<SortedRow*>(nullptr));
}

// A step as sorted attention sees it: what becomes of a pair.
inline ops::SortedAttentionProblem stepProblem(int64_t rounds, double scale, bool lastResort,
                                               double selfPenalty) {
  ops::SortedAttentionProblem p;
  p.queryOrder = TensorView::ofShape(DType::i32, {1, 1, rounds, 1});
  p.pattern = ops::SortedPattern::chunk;
  p.causal = true;
  p.self = lastResort ? ops::SortedSelf::lastResort : ops::SortedSelf::ordinary;
  p.selfPenalty = selfPenalty;
  p.duplicates = ops::SortedDuplicates::corrected;
  p.scale = scale;
  return p;
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
