// One tile of keys and one panel of queries (panel.h): both products and the softmax between them,
// compiled once for every kernel that attends.
#include "cpp/cpu/attention/panel.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

template <int NR, class Score>
class TileStep {
 public:
  LONGSPAN_INLINE TileStep(Panel<NR>& panel, const Score& score, const KeyTile& tile, float* p,
                           RowsAhead& ahead, const TermTiles& terms)
      : panel_(panel), score_(score), tile_(tile), p_(p), ahead_(ahead), terms_(terms) {}

  LONGSPAN_INLINE void run() {
    const bool full = tile_.begin >= panel_.fullBegin &&
                      tile_.begin + tile_.count <= panel_.fullEnd && tile_.count % kRows == 0;
    if (full) {
      weights<false>();
      weigh<false>();
    } else {
      weights<true>();
      weigh<kSkips>();
    }
    panel_.opened = true;
  }

 private:
  using P = Panel<NR>;
  static constexpr int64_t kWidth = P::kWidth;
  static constexpr int kRows = P::kRows;
  // Vectors that a mask hides from a few keys are left out: as many copies of the products.
  static constexpr bool kSkips = NR > 1;

  // How many vectors, from the first on, see no key from `key` on.
  LONGSPAN_INLINE int hidden(int64_t key) const {
    int count = 0;
    while (count < NR && key >= panel_.bounds[count].end) ++count;
    return count;
  }

  // Calls f with `first` as a constant from 0 to NR.
  template <int kFirst = 0, class F>
  LONGSPAN_INLINE static void withFirst(int first, F&& f) {
    if constexpr (kFirst < NR) {
      if (first != kFirst) return withFirst<kFirst + 1>(first, f);
    }
    f(std::integral_constant<int, kFirst>{});
  }

  // P^T. Exponentials are taken in registers, below the maximum so far: independent of the
  // products that follow, they hide behind these. Where that maximum turns out wrong the tile is
  // done again.
  template <bool kMasked>
  LONGSPAN_INLINE void weights() {
    vf top[NR], total[NR];
    vi raise[NR];
    // What is added to scores often hides all but a last resort of a first tile.
    if (Score::kPlain || panel_.opened) {
      for (int v = 0; v < NR; ++v) total[v] = panel_.sum[v];
      scores<kMasked, true>(top, total);
      if (!raised(top, raise)) {
        for (int v = 0; v < NR; ++v) panel_.sum[v] = total[v];
        return;
      }
    }
    scores<true, false>(top, total);
    raised(top, raise);
    softmax(roundUp(tile_.count, kRows), top, raise);
  }

  // S^T minus the running maximum, or with kExponential P^T, whose rows are added to `total`; and
  // each lane's largest score. Of P^T, vectors that see none of a row's group are not written.
  template <bool kMasked, bool kExponential>
  LONGSPAN_INLINE void scores(vf (&top)[NR], vf (&total)[NR]) {
    const vf none = vbroadcast(-std::numeric_limits<float>::infinity());
    vf m[NR];
    for (int v = 0; v < NR; ++v) {
      top[v] = none;
      m[v] = panel_.maximum[v];
    }
    for (int64_t j = 0; j < tile_.count; j += kRows) {
      ahead_.fetch();
      const int64_t begin = tile_.begin + j;
      const auto group = [&](auto first) __attribute__((always_inline)) {
        vf c[kRows][NR];
        tileClear(c);
        tileMultiply<kRows, NR, first>(panel_.dim, tile_.k.data + j * tile_.k.stride, 1,
                                       tile_.k.stride, panel_.qt, kWidth, c);
        if constexpr (!Score::kPlain) score_.cap(c);
#pragma GCC unroll 16
        for (int v = first; v < NR; ++v) {
          const bool crossed = kMasked && !(begin >= panel_.bounds[v].fullBegin &&
                                            begin + kRows <= panel_.bounds[v].fullEnd);
#pragma GCC unroll 16
          for (int r = 0; r < kRows; ++r) {
            const auto term = [&](TermTile t) {
              return vload(t.at + (j + r) * t.step + v * kLanes);
            };
            vf x;
            if constexpr (Score::kPlain) {
              x = score_.below(c[r][v], m[v]);
            } else {
              x = score_.below(c[r][v], term(terms_.added), m[v]);
            }
            if (crossed) {
              const vi key = vbroadcast(static_cast<int32_t>(begin + r));
              x = vselect(
                  (key >= vload(panel_.lo + v * kLanes)) & (key < vload(panel_.hi + v * kLanes)), x,
                  none);
            }
            top[v] = vmax(top[v], x);
            if constexpr (kExponential) {
              x = vexp2Fast(x);
              total[v] += x;
              if constexpr (!Score::kPlain) x *= term(terms_.kept);
            }
            vstore(p_ + (j + r) * kWidth + v * kLanes, x);
          }
        }
      };
      if constexpr (kMasked && kExponential && kSkips) {
        withFirst(hidden(begin), group);
      } else {
        group(std::integral_constant<int, 0>{});
      }
    }
  }

  // Lanes whose maximum must become their largest score.
  LONGSPAN_INLINE bool raised(const vf (&top)[NR], vi (&raise)[NR]) const {
    vi any = vi{};
    for (int v = 0; v < NR; ++v) {
      const vi low = (panel_.sum[v] == 0.0f) & (top[v] < -P::kSlack) &
                     (top[v] > -std::numeric_limits<float>::infinity());
      raise[v] = (top[v] > P::kSlack) | low;
      any |= raise[v];
    }
    return vany(any);
  }

  LONGSPAN_INLINE void softmax(int64_t count, const vf (&top)[NR], const vi (&raise)[NR]) {
    vf delta[NR], factor[NR], total[NR];
    vi rescale = vi{};
    for (int v = 0; v < NR; ++v) {
      delta[v] = vselect(raise[v], top[v], vf{});
      const vi old = raise[v] & (panel_.sum[v] != 0.0f);
      factor[v] = vselect(old, vexp2Fast(-delta[v]), vbroadcast(1.0f));
      panel_.maximum[v] += delta[v];
      total[v] = panel_.sum[v] * factor[v];
      rescale |= old;
    }
    if (vany(rescale)) {
      for (int64_t d = 0; d < panel_.valueDim; ++d) {
        for (int v = 0; v < NR; ++v) {
          float* o = panel_.ot + d * kWidth + v * kLanes;
          vstore(o, vload(o) * factor[v]);
        }
      }
    }
    for (int64_t j = 0; j < count; ++j) {
#pragma GCC unroll 16
      for (int v = 0; v < NR; ++v) {
        float* at = p_ + j * kWidth + v * kLanes;
        vf x = vexp2Fast(vload(at) - delta[v]);
        total[v] += x;
        if constexpr (!Score::kPlain)
          x *= vload(terms_.kept.at + j * terms_.kept.step + v * kLanes);
        vstore(at, x);
      }
    }
    for (int v = 0; v < NR; ++v) panel_.sum[v] = total[v];
  }

  // O^T[d][query] += sum over keys of V[key][d] P^T[key][query]
  template <bool kSkipping>
  LONGSPAN_INLINE void weigh() {
    int64_t stop[NR];  // the key from which on vectors up to this one are hidden
    for (int v = 0; kSkipping && v < NR; ++v) {
      const int64_t end = roundUp(std::max<int64_t>(panel_.bounds[v].end - tile_.begin, 0), kRows);
      stop[v] = std::max(v == 0 ? 0 : stop[v - 1], std::min(end, tile_.count));
    }
    float* ot = panel_.ot;
    for (int64_t d = 0; d < panel_.valueDim; d += kRows) {
      vf c[kRows][NR];
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < NR; ++v) c[r][v] = vload(ot + (d + r) * kWidth + v * kLanes);
      }
      if constexpr (kSkipping) {
        weighSeen(d, stop, c);
      } else {
        tileMultiply<kRows, NR>(tile_.count, tile_.v.data + d, tile_.v.stride, 1, p_, kWidth, c);
      }
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
        for (int v = 0; v < NR; ++v) vstore(ot + (d + r) * kWidth + v * kLanes, c[r][v]);
      }
    }
  }

  template <int kFirst = 0>
  LONGSPAN_INLINE void weighSeen(int64_t d, const int64_t (&stop)[NR], vf (&c)[kRows][NR],
                                 int64_t key = 0) const {
    tileMultiply<kRows, NR, kFirst>(stop[kFirst] - key, tile_.v.data + key * tile_.v.stride + d,
                                    tile_.v.stride, 1, p_ + key * kWidth, kWidth, c);
    if constexpr (kFirst + 1 < NR) weighSeen<kFirst + 1>(d, stop, c, stop[kFirst]);
  }

  Panel<NR>& panel_;
  const Score& score_;
  const KeyTile& tile_;
  float* const p_;
  RowsAhead& ahead_;
  const TermTiles& terms_;
};

}  // namespace

template <int NR>
template <class Score>
void Panel<NR>::step(const Score& score, const KeyTile& tile, float* p, RowsAhead& ahead,
                     const TermTiles& terms) {
  if (meets(tile.begin, tile.count)) TileStep<NR, Score>(*this, score, tile, p, ahead, terms).run();
}

#define LONGSPAN_PANEL_STEP(vectors, score)                                            \
  template void Panel<vectors>::step(const score&, const KeyTile&, float*, RowsAhead&, \
                                     const TermTiles&)

LONGSPAN_PANEL_STEP(1, ScaledScore);
LONGSPAN_PANEL_STEP(1, GeneralScore);
LONGSPAN_PANEL_STEP(kTileVectors, ScaledScore);
LONGSPAN_PANEL_STEP(kTileVectors, GeneralScore);
// Small blocks of a mask, and panels of the sparse family that are partly filled.
#if LONGSPAN_TILE_VECTORS > 2
LONGSPAN_PANEL_STEP(2, ScaledScore);
LONGSPAN_PANEL_STEP(2, GeneralScore);
#endif
#if LONGSPAN_TILE_VECTORS > 3
LONGSPAN_PANEL_STEP(3, GeneralScore);
#endif

}  // namespace longspan::cpu::LONGSPAN_LEVEL
