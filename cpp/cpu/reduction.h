// How a reduction walks its tensor. Axes are merged into kept and reduced ones; the reduced
// elements of an output are numbered row-major and cut into blocks of fixed size, whose partial
// results are combined in order: results depend on the shape and strides alone, never on the number
// of threads.
#pragma once

#include <algorithm>
#include <vector>

#include "cpp/core/tensor_view.h"

namespace longspan::cpu {

// Merged axes of a strided walk.
struct Axes {
  int rank = 0;
  int64_t count = 1;
  std::array<int64_t, kMaxRank> shape{};
  std::array<int64_t, kMaxRank> stride{};

  void add(int64_t length, int64_t step) {
    count *= length;
    if (length == 1) return;
    if (rank > 0 && stride[rank - 1] == step * length) {
      shape[rank - 1] *= length;
      stride[rank - 1] = step;
    } else {
      shape[rank] = length;
      stride[rank++] = step;
    }
  }
  int64_t inner() const { return rank > 0 ? shape[rank - 1] : 1; }
  int64_t innerStride() const { return rank > 0 ? stride[rank - 1] : 1; }
  // Offset of element `index`, row-major, of the first `axes` axes.
  int64_t at(int64_t index, int axes) const {
    int64_t offset = 0;
    for (int i = axes - 1; i >= 0; --i) {
      offset += index % shape[i] * stride[i];
      index /= shape[i];
    }
    return offset;
  }
  int64_t at(int64_t index) const { return at(index, rank); }
};

struct Reduction {
  static constexpr int64_t kBlock = 1 << 15;   // reduced elements of a block, by rows
  static constexpr int64_t kBlockRows = 1024;  // by columns
  static constexpr int64_t kTile = 512;        // columns of an item

  Axes kept, reduced;
  // By columns: neighbours in memory belong to different outputs, and an item adds up rows of them.
  // By rows: an item runs through the elements of one output after another.
  bool byColumns = false;
  int64_t blocks = 1;

  Reduction(const TensorView& x, const std::vector<int64_t>& axes) {
    size_t next = 0;
    for (int i = 0; i < x.rank; ++i) {
      const bool isReduced = next < axes.size() && axes[next] == i;
      if (isReduced) ++next;
      (isReduced ? reduced : kept).add(x.shape[i], x.stride[i]);
    }
    const auto distance = [](const Axes& a) {
      return a.rank > 0 ? std::abs(a.innerStride()) : INT64_MAX;
    };
    byColumns = kept.inner() >= 8 && distance(kept) < distance(reduced);
    const int64_t size = byColumns ? kBlockRows : kBlock;
    blocks = std::max<int64_t>(1, (reduced.count + size - 1) / size);
  }

  int64_t outputs() const { return kept.count; }
  // Partial results that must be kept between the two passes.
  int64_t partials() const { return blocks > 1 ? blocks * outputs() : 0; }
};

}  // namespace longspan::cpu
