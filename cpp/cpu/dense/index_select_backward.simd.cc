// Gradient of selected slices, deterministic without atomics: positions are sorted by id (counting
// sort, stable), and each slice of the result is owned by one item, which adds its gradients in
// order. Leaves of 64 are added in f32, leaves in f64. Reads gradY once and writes gradX once.
#include <numeric>

#include "cpp/cpu/axis_blocks.h"
#include "cpp/cpu/chunk.h"
#include "cpp/cpu/indices.h"
#include "cpp/cpu/strided.h"
#include "cpp/ops/dense/index_select.h"

namespace longspan::cpu::LONGSPAN_LEVEL {
namespace {

constexpr int64_t kColumns = 256;  // of a slice, per item
constexpr int64_t kLeaf = 64;

// starts[id] .. starts[id + 1] delimit the positions of `id` in `order`.
void sortById(const ops::IndexSelectBackward& p, int32_t* starts, int32_t* order, BadIndex& bad) {
  std::fill_n(starts, p.length + 1, 0);
  const int64_t count = p.ids.numel();
  const auto idAt = [&](int64_t position) {
    return int64_t{p.ids.data<int32_t>()[offsetAlong(p.ids, 0, p.ids.rank, position)]};
  };
  const auto valid = [&](int64_t id) { return id >= 0 && id < p.length && id != p.skip; };
  for (int64_t i = 0; i < count; ++i) {
    const int64_t id = idAt(i);
    if (valid(id)) {
      ++starts[id + 1];
    } else if (id != p.skip) {
      bad.record(i);
    }
  }
  std::partial_sum(starts, starts + p.length + 1, starts);
  // Filling advances each start to the next one's; shifting puts them back.
  for (int64_t i = 0; i < count; ++i) {
    const int64_t id = idAt(i);
    if (valid(id)) order[starts[id]++] = static_cast<int32_t>(i);
  }
  for (int64_t id = p.length; id > 0; --id) starts[id] = starts[id - 1];
  starts[0] = 0;
}

// sum[i] = the gradients at position at + i * step of the `count` slices in `order`, in order.
template <class A>
void sumLeaf(const ops::IndexSelectBackward& p, const int32_t* order, int64_t count, int64_t at,
             int64_t step, int64_t n, A* sum) {
  Chunk<A> scratch;
  std::fill_n(sum, n, A{0});
  for (int64_t k = 0; k < count; ++k) {
    const int64_t from = at + offsetAlong(p.gradY, p.axis, p.ids.rank, order[k]);
    const A* row = loadChunk(p.gradY, from, step, n, scratch.data);
    for (int64_t i = 0; i < n; ++i) sum[i] += row[i];
  }
}

// The same as a sum of leaves in f64.
template <class A>
void sumLeaves(const ops::IndexSelectBackward& p, const int32_t* order, int64_t count, int64_t at,
               int64_t step, int64_t n, double* sum) {
  alignas(64) A leaf[kColumns];
  std::fill_n(sum, n, 0.0);
  for (int64_t first = 0; first < count; first += kLeaf) {
    sumLeaf(p, order + first, std::min(kLeaf, count - first), at, step, n, leaf);
    for (int64_t i = 0; i < n; ++i) sum[i] += leaf[i];
  }
}

}  // namespace

Status indexSelectBackward(const ops::IndexSelectBackward& p, Context& context) {
  auto* starts = reinterpret_cast<int32_t*>(context.workspace.data);
  int32_t* order = starts + p.length + 1;
  BadIndex bad;
  sortById(p, starts, order, bad);

  const TensorView from = sliceLayout(p.gradY, p.axis, p.ids.rank),
                   to = sliceLayout(p.gradX, p.axis, 1);
  const StridedLoop<2> loop({&from, &to});
  const int64_t inner = loop.innerLength(), runs = loop.runs();
  const int64_t gs = loop.stride[0][loop.rank - 1], xs = loop.stride[1][loop.rank - 1];
  const int64_t pieces = runs * ((inner + kColumns - 1) / kColumns);
  const int64_t grain =
      std::max<int64_t>(1, 4096 / std::max<int64_t>(1, std::min(inner, kColumns)));
  withArithmetic(p.gradY.dtype, [&](auto zero) {
    using A = decltype(zero);
    context.pool.forRange(p.length * pieces, grain, [&](int64_t begin, int64_t end) {
      alignas(64) double sum[kColumns];
      Chunk<A> scratch;
      for (int64_t item = begin; item < end; ++item) {
        const int64_t id = item / pieces, piece = item % pieces;
        const int32_t* positions = order + starts[id];
        const int64_t count = starts[id + 1] - starts[id];
        const auto at = loop.offsets(piece % runs);
        const int64_t column = piece / runs * kColumns, n = std::min(kColumns, inner - column);
        const int64_t from = at[0] + column * gs;
        const int64_t target = at[1] + id * p.gradX.stride[p.axis] + column * xs;
        if (count <= kLeaf) {
          A* leaf = chunkTarget(p.gradX, target, scratch.data, xs);
          sumLeaf(p, positions, count, from, gs, n, leaf);
          storeChunk(p.gradX, target, n, leaf, xs);
        } else {
          sumLeaves<A>(p, positions, count, from, gs, n, sum);
          roundChunk(p.gradX, target, n, sum, xs);
        }
      }
    });
  });
  return bad.status("ids", p.ids, p.length);
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
