#include "cuda/dense/matmul_plan.h"

#include <algorithm>
#include <cstdlib>

#include "cuda/core/sm90a.h"
#include "cuda/dense/matmul_maps.h"

namespace longspan::cuda::matmul {
namespace {

using ops::MatmulShape;

constexpr int64_t kLargest = 0x7fffffff;

int64_t ceilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }
size_t rounded(int64_t bytes) { return static_cast<size_t>((bytes + 255) / 256 * 256); }

Axes axesOf(const std::array<MatmulShape::Axis, kMaxRank>& axes, int rank) {
  Axes out;
  out.rank = rank;
  std::copy_n(axes.begin(), rank, out.axis);
  return out;
}

// A stride that no second element uses is free: it becomes what suits the loaders.
Operand operandOf(int64_t row, int64_t k, int64_t rows, int64_t depth) {
  Operand x;
  x.row = row, x.k = k;
  if (depth == 1) x.k = row == 1 ? 0 : 1;
  if (rows == 1) x.row = x.k == 1 ? 0 : 1;
  return x;
}

// Whether runs of 16 bytes along the contiguous axis are aligned everywhere.
bool allowsVectors(const Operand& x, const TensorView& view, const Problem& p, bool isA) {
  const auto run = static_cast<int64_t>(16 / sizeOf(view.dtype));
  if (x.k != 1 && x.row != 1) return false;
  if ((x.k == 1 ? x.row : x.k) % run != 0 || view.offset % run != 0) return false;
  for (const Axes* axes : {&p.batch, &p.summed}) {
    for (int i = 0; i < axes->rank; ++i) {
      if ((isA ? axes->axis[i].a : axes->axis[i].b) % run != 0) return false;
    }
  }
  return true;
}

Problem problemOf(const ops::Matmul& p) {
  const MatmulShape& s = p.shape;
  Problem out;
  out.m = s.m, out.n = s.n, out.k = s.k;
  out.batch = axesOf(s.batch, s.batchRank);
  out.summed = axesOf(s.summed, s.summedRank);
  out.batches = static_cast<int>(s.batches());
  out.sums = static_cast<int>(s.sums());
  out.a = operandOf(s.am, s.ak, s.m, s.k);
  out.b = operandOf(s.bn, s.bk, s.n, s.k);
  out.a.vectors = allowsVectors(out.a, p.a, out, true);
  out.b.vectors = allowsVectors(out.b, p.b, out, false);
  out.activation = p.activation;
  return out;
}

// Describes a copy of a 16-bit operand in which the axis with the smaller stride is contiguous and
// its runs are padded to 16 bytes; axes along which it is broadcast stay so.
Packing pack(Operand& x, int64_t rows, Problem& p, bool isA) {
  constexpr int64_t kRun = 8;
  const bool alongK = std::abs(x.k) <= std::abs(x.row);
  Packing out;
  out.elements = alongK ? p.k : rows;
  out.lines = alongK ? rows : p.k;
  out.line = ceilDivide(out.elements, kRun) * kRun;
  out.elementStep = alongK ? x.k : x.row;
  out.lineStep = alongK ? x.row : x.k;
  int64_t step = out.lines * out.line;
  for (Axes* axes : {&p.summed, &p.batch}) {
    for (int i = axes->rank - 1; i >= 0; --i) {
      int64_t& stride = isA ? axes->axis[i].a : axes->axis[i].b;
      if (stride == 0) continue;
      // The copy's axes in the order of memory, the slowest first.
      std::copy_backward(out.axes.axis, out.axes.axis + out.axes.rank,
                         out.axes.axis + out.axes.rank + 1);
      out.axes.axis[0] = {axes->axis[i].length, stride, 0};
      ++out.axes.rank;
      out.copies *= axes->axis[i].length;
      stride = step;
      step *= axes->axis[i].length;
    }
  }
  x.k = alongK ? 1 : out.line;
  x.row = alongK ? out.line : 1;
  x.vectors = true;
  return out;
}

// What a tile costs: FLOPs per clock of a multiprocessor that holds `resident` blocks, and the
// share of it that a single block reaches. From the instruction rates of an H100, derated; only
// ratios matter.
struct Cost {
  Kernel kernel;
  TileSize tile;
  double rate;
  int resident;
  double alone;
};
constexpr Cost kWgmma[] = {{Kernel::wgmma, kWideTile, 3300, 1, 1.0},
                           {Kernel::wgmma, kSquareTile, 2800, 1, 1.0}};
constexpr Cost kMmaLarge[] = {{Kernel::mma, kLargeTile, 2400, 2, 0.6}};
constexpr Cost kMma[] = {{Kernel::mma, kSmallTile, 1700, 4, 0.35}};
constexpr Cost kMmaThin[] = {{Kernel::mma, kThinTile, 600, 3, 0.45}};
constexpr Cost kMmaStrided[] = {{Kernel::mma, kStridedTile, 400, 3, 0.4}};
constexpr Cost kFma[] = {{Kernel::fma, kLargeTileF32, 190, 2, 0.7},
                         {Kernel::fma, kSmallTileF32, 140, 2, 0.6},
                         {Kernel::fma, kThinTileF32, 100, 4, 0.4}};
constexpr Cost kTf32[] = {{Kernel::tf32, kTileTf32, 1000, 2, 0.6}};

constexpr double kClocksPerUs = 1600, kBytesPerUs = 3.4e6, kStartUs = 1.5, kLaunchUs = 2.5;

double microseconds(const Problem& p, const Cost& cost, int splits, size_t elementBytes,
                    int multiprocessors) {
  const TileSize& t = cost.tile;
  const int64_t blocks = ceilDivide(p.m, t.rows) * ceilDivide(p.n, t.columns) * p.batches * splits;
  const int64_t slices = ceilDivide(p.sums * ceilDivide(p.k, t.depth), splits);
  const double work = 2.0 * t.rows * t.columns * t.depth * static_cast<double>(slices);
  const int64_t each = ceilDivide(blocks, multiprocessors);
  const int64_t waves = each / cost.resident, rest = each % cost.resident;
  const double clocks =
      work / cost.rate *
      (static_cast<double>(waves * cost.resident) +
       (rest == 0 ? 0.0 : static_cast<double>(rest) / std::min(1.0, rest * cost.alone)));
  const double us = clocks / kClocksPerUs + kStartUs * static_cast<double>(waves + (rest > 0));
  const double read = static_cast<double>(p.m + p.n) * static_cast<double>(p.k) * p.sums *
                      p.batches * static_cast<double>(elementBytes);
  double total = std::max(us, read / kBytesPerUs) + 0.05 * us;
  if (splits > 1) {
    total += kLaunchUs + 8.0 * splits * static_cast<double>(p.m) * static_cast<double>(p.n) *
                             p.batches / kBytesPerUs;
  }
  return total;
}

// The quickest of `costs` becomes the plan's, if it is quicker than `best` microseconds; returns
// those that the plan takes then.
template <size_t kCount>
double choose(Plan& plan, const Cost (&costs)[kCount], size_t elementBytes, int multiprocessors,
              double best = 0) {
  constexpr int kLeastSlices = 4;  // of a part of K
  Problem& p = plan.problem;
  for (const Cost& cost : costs) {
    const int64_t slices = p.sums * ceilDivide(p.k, cost.tile.depth);
    for (int splits : {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64}) {
      if (splits > 1 && slices < int64_t{splits} * kLeastSlices) break;
      const double us = microseconds(p, cost, splits, elementBytes, multiprocessors);
      if (best > 0 && us >= best) continue;
      best = us;
      plan.kernel = cost.kernel;
      plan.tile = cost.tile;
      p.splits = splits;
    }
  }
  return best;
}

}  // namespace

bool fits(const ops::Matmul& p) {
  const MatmulShape& s = p.shape;
  const TileSize& t = kThinTileF32;  // the smallest rows and slices of all
  const double blocks = static_cast<double>(ceilDivide(s.m, t.rows)) *
                        static_cast<double>(ceilDivide(s.n, 64)) * static_cast<double>(s.batches());
  return blocks <= kLargest && s.sums() <= kLargest &&
         static_cast<double>(s.sums()) * static_cast<double>(ceilDivide(s.k, 8)) <= kLargest;
}

Plan planOf(const ops::Matmul& p, const Gpu& gpu) {
  // From so many FLOPs on a copy of an operand pays for itself.
  constexpr double kWorthPacking = 1e8;
  // Thinner products are bound by their bytes, which mma.sync's thin tile reads as well without
  // multiplying that many zeros.
  constexpr int64_t kLeastSide = 64;
  Plan plan;
  Problem& problem = plan.problem;
  problem = problemOf(p);
  const size_t elementBytes = sizeOf(p.a.dtype);
  const int multiprocessors = std::max(gpu.multiprocessors, 1);
  if (p.a.dtype == DType::f32) {
    if (p.allowTf32 && gpu.major >= 8 && problem.a.vectors && problem.b.vectors) {
      choose(plan, kTf32, elementBytes, multiprocessors);
    } else {
      choose(plan, kFma, elementBytes, multiprocessors);
    }
  } else {
    const double work = 2.0 * static_cast<double>(problem.m) * static_cast<double>(problem.n) *
                        static_cast<double>(problem.k) * problem.sums * problem.batches;
    if (work >= kWorthPacking) {
      plan.packsA = !problem.a.vectors;
      plan.packsB = !problem.b.vectors;
      if (plan.packsA) plan.packA = pack(problem.a, problem.m, problem, true);
      if (plan.packsB) plan.packB = pack(problem.b, problem.n, problem, false);
    }
    if (!problem.a.vectors || !problem.b.vectors) {
      choose(plan, kMmaStrided, elementBytes, multiprocessors);
    } else {
      double best = choose(plan, kMma, elementBytes, multiprocessors);
      // A few rows of activations, which are contiguous; the tile has no code for others.
      if (problem.a.k == 1) best = choose(plan, kMmaThin, elementBytes, multiprocessors, best);
      // On sm_90a the large tile has no code: what cannot be mapped there is rare.
      if (!runsSm90a(gpu)) {
        choose(plan, kMmaLarge, elementBytes, multiprocessors, best);
      } else if (std::min(problem.m, problem.n) >= kLeastSide && mapped(problem)) {
        choose(plan, kWgmma, elementBytes, multiprocessors, best);
      }
    }
  }
  if (plan.packsA) plan.packedA = rounded(plan.packA.bytes());
  if (plan.packsB) plan.packedB = rounded(plan.packB.bytes());
  if (problem.splits > 1) {
    plan.partial = rounded(int64_t{problem.splits} * problem.batches * problem.m * problem.n * 4);
  }
  return plan;
}

}  // namespace longspan::cuda::matmul
