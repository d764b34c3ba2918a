// Walking several strided views of one shape together: axes are merged where all views allow it, so
// that contiguous data becomes one long run.
#pragma once

#include <algorithm>
#include <array>

#include "cpp/core/tensor_view.h"

namespace longspan::cpu {

template <int N>
struct StridedLoop {
  int rank = 0;
  std::array<int64_t, kMaxRank> shape{};
  std::array<std::array<int64_t, kMaxRank>, N> stride{};

  // Views must have one shape; broadcast operands have stride 0.
  explicit StridedLoop(const std::array<const TensorView*, N>& views) {
    const TensorView& first = *views[0];
    for (int axis = 0; axis < first.rank; ++axis) {
      if (first.shape[axis] == 1) continue;
      bool merge = rank > 0;
      for (int n = 0; n < N && merge; ++n) {
        merge = stride[n][rank - 1] == views[n]->stride[axis] * first.shape[axis];
      }
      if (merge) {
        shape[rank - 1] *= first.shape[axis];
      } else {
        shape[rank++] = first.shape[axis];
      }
      for (int n = 0; n < N; ++n) stride[n][rank - 1] = views[n]->stride[axis];
    }
    if (rank == 0) shape[rank++] = 1;  // a single element
  }

  int64_t innerLength() const { return shape[rank - 1]; }
  int64_t runs() const {
    int64_t n = 1;
    for (int i = 0; i + 1 < rank; ++i) n *= shape[i];
    return n;
  }

  // Element offsets of run `index` in each view.
  std::array<int64_t, N> offsets(int64_t index) const {
    std::array<int64_t, N> at{};
    for (int axis = rank - 2; axis >= 0; --axis) {
      const int64_t i = index % shape[axis];
      index /= shape[axis];
      for (int n = 0; n < N; ++n) at[n] += i * stride[n][axis];
    }
    return at;
  }

  // body(offsets, begin, end) over pieces of runs: `begin` and `end` are positions in the innermost
  // axis. Pieces hold about `grain` elements.
  template <class Pool, class F>
  void forEach(Pool& pool, int64_t grain, F&& body) const {
    const int64_t inner = innerLength(), outer = runs();
    if (inner == 0 || outer == 0) return;
    if (outer == 1) {
      pool.forRange(inner, grain,
                    [&](int64_t begin, int64_t end) { body(offsets(0), begin, end); });
      return;
    }
    if (inner >= 2 * grain) {  // long runs are cut
      const int64_t cuts = (inner + grain - 1) / grain;
      pool.forEach(outer * cuts, [&](int64_t piece, int) {
        const int64_t begin = piece % cuts * grain;
        body(offsets(piece / cuts), begin, std::min(inner, begin + grain));
      });
      return;
    }
    const int64_t perPiece = std::max<int64_t>(1, grain / inner);
    pool.forRange(outer, perPiece, [&](int64_t begin, int64_t end) {
      for (int64_t run = begin; run < end; ++run) body(offsets(run), int64_t{0}, inner);
    });
  }
};

}  // namespace longspan::cpu
