// Sampling classes by inversion, as on the CPU: the first class whose running sum of weights
// exceeds u times the sum, all in f64, by index where all classes take part, else from the largest
// logit down. A row's logits are shared out to blocks of 2048 classes: first their maxima, then
// their masses, then one block finds the share that holds the draw and looks through it alone. For
// top-k and top-p the classes are sorted first (sort.cu).
//
// Sums are taken in another order than the CPU's: the two disagree where u falls within rounding
// (about 1e-14) of a boundary. A row that cannot be drawn from, which the CPU refuses, gets class
// -1. Cost, V classes: two reads of the row and V exponentials in f64; top-p without a small k
// sorts the row. Bound by launches: an expected 10 us on an H200 for a row of 50000. Right on an
// H200; times: bench/results/nvidia-h200.json.
#include <algorithm>

#include "cpp/core/philox.h"
#include "cpp/ops/dense/categorical.h"
#include "cuda/dense/sorting.h"

namespace longspan::cuda {
namespace {

constexpr int kDrawThreads = 256;
constexpr int kLogitsPerThread = 8;
constexpr int64_t kPiece = kDrawThreads * kLogitsPerThread;  // classes of a block

struct Top {
  float value;
  int32_t index;
  int32_t unusable;  // NaN or infinity was seen
};
struct MergeTops {
  __device__ __forceinline__ Top operator()(Top a, Top b) const {
    const bool second = b.index >= 0 && (a.index < 0 || b.value > a.value ||
                                         (b.value == a.value && b.index < a.index));
    return {second ? b.value : a.value, second ? b.index : a.index, a.unusable | b.unusable};
  }
};

enum class Way : int { best, byIndex, byOrder };

struct CategoricalDraw {
  RowSet logits;
  DType dtype;
  const int32_t* state;
  int32_t* ids;
  double temperature, topP;
  int64_t pieces;
  int64_t limit;   // classes that may be drawn, from the largest logit down
  Top* tops;       // [rows][pieces]
  double* masses;  // [rows][pieces]; null: not taken
  int32_t* order;  // [rows][limit], by order alone
  Way way;
};

__device__ __forceinline__ float logitAt(const CategoricalDraw& p, int64_t base, int64_t v) {
  const int64_t at = base + v * p.logits.step;
  if (p.dtype == DType::f16) return toFloat(static_cast<const f16*>(p.logits.data)[at]);
  if (p.dtype == DType::bf16) return toFloat(static_cast<const bf16*>(p.logits.data)[at]);
  return static_cast<const float*>(p.logits.data)[at];
}

__device__ __forceinline__ double weightAt(const CategoricalDraw& p, int64_t base, int64_t v,
                                           float top) {
  return exp((static_cast<double>(logitAt(p, base, v)) - static_cast<double>(top)) / p.temperature);
}

// The largest logit of a row, from those of its pieces.
__device__ __forceinline__ Top topOf(const CategoricalDraw& p, int64_t row, Team& team) {
  Top top{0, -1, 0};
  for (int64_t i = team.rank; i < p.pieces; i += team.size) {
    top = MergeTops{}(top, p.tops[row * p.pieces + i]);
  }
  return team.all(top, MergeTops{});
}

__global__ void __launch_bounds__(kDrawThreads)
    findTops(const __grid_constant__ CategoricalDraw p) {
  LONGSPAN_SHARED(shared);
  Team team(kDrawThreads, shared);
  const int64_t row = blockIdx.x / p.pieces, first = (blockIdx.x - row * p.pieces) * kPiece;
  const int64_t base = p.logits.axes.at(row), end = min(p.logits.length, first + kPiece);
  Top top{0, -1, 0};
#pragma unroll 4
  for (int64_t v = first + team.rank; v < end; v += kDrawThreads) {
    const float x = logitAt(p, base, v);
    top = MergeTops{}(top, {x, static_cast<int32_t>(v), x < INFINITY ? 0 : 1});
  }
  top = team.all(top, MergeTops{});
  if (team.rank == 0) p.tops[blockIdx.x] = top;
}

__global__ void __launch_bounds__(kDrawThreads)
    sumMasses(const __grid_constant__ CategoricalDraw p) {
  LONGSPAN_SHARED(shared);
  Team team(kDrawThreads, shared);
  const int64_t row = blockIdx.x / p.pieces, first = (blockIdx.x - row * p.pieces) * kPiece;
  const int64_t base = p.logits.axes.at(row), end = min(p.logits.length, first + kPiece);
  const float top = topOf(p, row, team).value;
  double mass = 0;
  for (int64_t v = first + team.rank; v < end; v += kDrawThreads) mass += weightAt(p, base, v, top);
  mass = team.all(mass, Add{});
  if (team.rank == 0) p.masses[blockIdx.x] = mass;
}

// [0, 1) with 53 bits.
__device__ __forceinline__ double uniformOf(const PhiloxBlock& block) {
  return (static_cast<double>(block.word[0] >> 5) * 0x1p26 +
          static_cast<double>(block.word[1] >> 6)) *
         0x1p-53;
}

struct Found {
  double held;    // running sum there
  int32_t place;  // INT32_MAX: nowhere
};
struct Earlier {
  __device__ __forceinline__ Found operator()(Found a, Found b) const {
    return b.place < a.place ? b : a;
  }
};
struct Later {
  __device__ __forceinline__ int32_t operator()(int32_t a, int32_t b) const {
    return a > b ? a : b;
  }
};

// Walks along places [first, end) with the running sum `held`: the first of positive weight where
// it exceeds `bound` (or reaches it). What is held in the end is left in `held`, the last place of
// positive weight in `last`.
template <class F>
__device__ __forceinline__ Found walk(Team& team, int64_t first, int64_t end, double bound,
                                      bool reaches, double& held, int32_t& last, F&& weight) {
  for (int64_t begin = first; begin < end; begin += kPiece) {
    double w[kLogitsPerThread], sum = 0, total;
    const int64_t own = begin + team.rank * kLogitsPerThread;
#pragma unroll
    for (int j = 0; j < kLogitsPerThread; ++j) {
      w[j] = own + j < end ? weight(own + j) : 0;
      sum += w[j];
    }
    double running = held + team.before(sum, total);
    Found found{0, INT32_MAX};
    int32_t positive = -1;
#pragma unroll
    for (int j = 0; j < kLogitsPerThread; ++j) {
      running += w[j];
      if (!(w[j] > 0)) continue;
      const bool there = reaches ? running >= bound : running > bound;
      positive = static_cast<int32_t>(own + j);
      if (there && found.place == INT32_MAX) found = {running, positive};
    }
    found = team.all(found, Earlier{});
    last = max(last, team.all(positive, Later{}));
    if (found.place != INT32_MAX) return found;
    held += total;
  }
  return {held, INT32_MAX};
}

// The class where the running sum over all, by index, exceeds u times the whole.
__device__ __forceinline__ int32_t drawByIndex(const CategoricalDraw& p, int64_t row, float top,
                                               double u, Team& team) {
  const double* masses = p.masses + row * p.pieces;
  double mass = 0;
  for (int64_t i = 0; i < p.pieces; ++i) mass += masses[i];
  const double bound = u * mass;
  double held = 0;
  int64_t piece = 0;
  while (piece + 1 < p.pieces && held + masses[piece] <= bound) held += masses[piece++];
  const int64_t base = p.logits.axes.at(row);
  int32_t last = -1;
  const Found found = walk(team, piece * kPiece, p.logits.length, bound, false, held, last,
                           [&](int64_t v) { return weightAt(p, base, v, top); });
  if (found.place != INT32_MAX) return found.place;
  // Rounding may leave the draw beyond the last class of positive weight.
  if (last < 0) {
    walk(team, 0, p.logits.length, INFINITY, false, held, last,
         [&](int64_t v) { return weightAt(p, base, v, top); });
  }
  return last;
}

// The same among the fewest of the `limit` largest that hold a share topP of their mass.
__device__ __forceinline__ int32_t drawByOrder(const CategoricalDraw& p, int64_t row, float top,
                                               double u, Team& team) {
  const int32_t* order = p.order + row * p.limit;
  const int64_t base = p.logits.axes.at(row);
  const auto weight = [&](int64_t place) { return weightAt(p, base, order[place], top); };
  int64_t count = p.limit;
  double mass = 0;
  int32_t last = 0;
  if (p.masses != nullptr) {
    for (int64_t i = 0; i < p.pieces; ++i) mass += p.masses[row * p.pieces + i];
  } else {
    walk(team, 0, count, INFINITY, false, mass, last, weight);
  }
  if (p.topP < 1) {
    double held = 0;
    const Found found = walk(team, 0, count, p.topP * mass, true, held, last, weight);
    if (found.place != INT32_MAX) count = found.place + 1;
    mass = found.held;
  }
  double held = 0;
  last = 0;
  const Found found = walk(team, 0, count, u * mass, false, held, last, weight);
  return order[found.place != INT32_MAX ? found.place : last];
}

// A block per row.
__global__ void __launch_bounds__(kDrawThreads)
    drawRows(const __grid_constant__ CategoricalDraw p) {
  LONGSPAN_SHARED(shared);
  Team team(kDrawThreads, shared);
  const int64_t row = blockIdx.x;
  const Top top = topOf(p, row, team);
  int32_t id = top.index;
  if (top.unusable != 0 || top.value == -INFINITY) {
    id = -1;
  } else if (p.way != Way::best) {
    const double u = uniformOf(philox(loadPhilox(p.state), static_cast<uint64_t>(row)));
    id = p.way == Way::byIndex ? drawByIndex(p, row, top.value, u, team)
                               : drawByOrder(p, row, top.value, u, team);
  }
  if (team.rank == 0) p.ids[row] = id;
}

// What is computed and where it lies in the workspace.
struct DrawPlan {
  int64_t rows, classes, pieces, limit;
  Way way;
  bool masses;
  size_t topsAt = 0, massesAt = 0, orderAt = 0, sortAt = 0, bytes = 0;

  explicit DrawPlan(const ops::Categorical& p)
      : rows(p.ids.numel()),
        classes(p.logits.dim(-1)),
        pieces((classes + kPiece - 1) / kPiece),
        limit(p.topK == 0 ? classes : std::min(p.topK, classes)) {
    way = p.temperature == 0 || p.topK == 1 ? Way::best
          : limit == classes && p.topP >= 1 ? Way::byIndex
                                            : Way::byOrder;
    masses = way != Way::best && limit == classes;
    const auto take = [this](int64_t count, size_t size) {
      const size_t at = bytes;
      bytes += (static_cast<size_t>(count) * size + 15) / 16 * 16;
      return at;
    };
    topsAt = take(rows * pieces, sizeof(Top));
    if (masses) massesAt = take(rows * pieces, sizeof(double));
    if (way != Way::byOrder) return;
    orderAt = take(rows * limit, sizeof(int32_t));
    sortAt = bytes;
    bytes += sortWorkspace(rows, classes, limit);
  }
};

Status categorical(const ops::Categorical& o, Context& context) {
  const DrawPlan plan(o);
  if (plan.rows == 0) return {};
  std::byte* workspace = context.workspace.data;
  CategoricalDraw p{RowSet(o.logits),
                    o.logits.dtype,
                    addressOf<int32_t>(o.state),
                    addressOf<int32_t>(o.ids),
                    o.temperature,
                    o.topP,
                    plan.pieces,
                    plan.limit,
                    reinterpret_cast<Top*>(workspace + plan.topsAt),
                    plan.masses ? reinterpret_cast<double*>(workspace + plan.massesAt) : nullptr,
                    reinterpret_cast<int32_t*>(workspace + plan.orderAt),
                    plan.way};
  const dim3 all(static_cast<uint32_t>(plan.rows * plan.pieces)), block(kDrawThreads);
  LONGSPAN_RETURN_IF_ERROR(launched(launch(findTops, all, block, kTeamScratch, context.stream, p)));
  if (plan.masses) {
    LONGSPAN_RETURN_IF_ERROR(
        launched(launch(sumMasses, all, block, kTeamScratch, context.stream, p)));
  }
  if (plan.way == Way::byOrder) {
    SortJob job{p.logits, p.dtype, true, plan.limit, RowSet(), RowSet()};
    job.indices.data = p.order;
    job.indices.axes.add(plan.rows, plan.limit);
    job.indices.length = plan.limit;
    LONGSPAN_RETURN_IF_ERROR(sortLines(job, workspace + plan.sortAt, context.stream));
  }
  return launched(launch(drawRows, dim3(static_cast<uint32_t>(plan.rows)), block, kTeamScratch,
                         context.stream, p));
}

size_t categoricalWorkspace(const ops::Categorical& p, const Gpu&) { return DrawPlan(p).bytes; }

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Categorical, categorical, categoricalWorkspace);

}  // namespace
}  // namespace longspan::cuda
