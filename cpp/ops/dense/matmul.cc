#include "cpp/ops/dense/matmul.h"

#include <algorithm>
#include <utility>

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

constexpr const char* kVectorRemedy =
    "A matrix is needed: unsqueeze() a vector to [1, K] or [K, 1] and squeeze() the result";

// Length of batch axis `axis` of `rank`, counted in the broadcast batch; 1 where `t` has none.
int64_t batchLength(const TensorView& t, int rank, int axis) {
  const int own = axis - (rank - (t.rank - 2));
  return own < 0 ? 1 : t.shape[own];
}
int64_t batchStride(const TensorView& t, int rank, int axis) {
  const int own = axis - (rank - (t.rank - 2));
  return own < 0 || t.shape[own] == 1 ? 0 : t.stride[own];
}

void swapLastAxes(TensorView& t) {
  std::swap(t.shape[t.rank - 1], t.shape[t.rank - 2]);
  std::swap(t.stride[t.rank - 1], t.stride[t.rank - 2]);
}

}  // namespace

int64_t MatmulShape::count(const std::array<Axis, kMaxRank>& axes, int rank) {
  int64_t n = 1;
  for (int i = 0; i < rank; ++i) n *= axes[i].length;
  return n;
}

MatmulShape::Offsets MatmulShape::offsets(const std::array<Axis, kMaxRank>& axes, int rank,
                                          int64_t index) {
  Offsets at{0, 0};
  for (int i = rank - 1; i >= 0; --i) {
    const int64_t position = index % axes[i].length;
    index /= axes[i].length;
    at.a += position * axes[i].a;
    at.b += position * axes[i].b;
  }
  return at;
}

int64_t MatmulShape::splits() const {
  constexpr int64_t kLeastDepth = 512;
  const int64_t depth = k * sums();
  const auto blocks = [](int64_t length, int64_t block) { return (length + block - 1) / block; };
  const int64_t items =
      batches() * blocks(m, Matmul::kBlockRows) * blocks(n, Matmul::kBlockColumns);
  if (items == 0) return 1;
  return std::max<int64_t>(1, std::min(wantedItems() / items, depth / kLeastDepth));
}

Status Matmul::validate() {
  LONGSPAN_RETURN_IF_ERROR(check::floating("a", a));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("b", b, "a", a));
  if (a.rank < 2) return Status(Code::rank, "a", describe(a), kVectorRemedy);
  if (b.rank < 2) return Status(Code::rank, "b", describe(b), kVectorRemedy);
  const std::string givenA = describe(a), givenB = describe(b);
  if (transposeA) swapLastAxes(a);
  if (transposeB) swapLastAxes(b);

  MatmulShape& s = shape;
  s.m = a.dim(-2), s.k = a.dim(-1), s.n = b.dim(-1);
  s.am = a.strideOf(-2), s.ak = a.strideOf(-1), s.bk = b.strideOf(-2), s.bn = b.strideOf(-1);
  if (b.dim(-2) != s.k) {
    return Status(Code::shape, "b", givenB + (transposeB ? " transposed" : ""),
                  "Its rows must be as many as the columns of 'a', which is " + givenA +
                      (transposeA ? " transposed" : ""));
  }
  if (bias.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype("bias", bias, "a", a));
    LONGSPAN_RETURN_IF_ERROR(check::shape("bias", bias, {s.n}));
  }

  const int rank = std::max<int>(a.rank, b.rank) - 2;
  std::array<bool, kMaxRank> isSummed{};
  for (int64_t axis : summed) {
    if (axis < 0 || axis >= rank || isSummed[axis]) {
      return Status(Code::value, "summed", std::to_string(axis),
                    "Name each batch axis at most once, from 0 to " + std::to_string(rank - 1));
    }
    isSummed[axis] = true;
  }
  std::vector<int64_t> dims;
  std::vector<MatmulShape::Axis> batch, sums;
  for (int i = 0; i < rank; ++i) {
    const int64_t la = batchLength(a, rank, i), lb = batchLength(b, rank, i);
    if (la != lb && la != 1 && lb != 1) {
      return Status(Code::shape, "b", givenB,
                    "Its batch axes must broadcast with those of 'a', which is " + givenA);
    }
    const MatmulShape::Axis axis{la == 1 ? lb : la, batchStride(a, rank, i),
                                 batchStride(b, rank, i)};
    if (!isSummed[i]) dims.push_back(axis.length);
    if (axis.length != 1) (isSummed[i] ? sums : batch).push_back(axis);
  }
  dims.push_back(s.m);
  dims.push_back(s.n);
  LONGSPAN_RETURN_IF_ERROR(check::extents("a", dims));
  y = TensorView::ofShape(a.dtype, dims.data(), static_cast<int>(dims.size()));
  if (keepPreactivation && activation != Activation::none) preactivation = TensorView::like(y);

  while (!sums.empty() &&
         (s.k == 1 || (sums.back().a == s.ak * s.k && sums.back().b == s.bk * s.k))) {
    if (s.k == 1) s.ak = sums.back().a, s.bk = sums.back().b;
    s.k *= sums.back().length;
    sums.pop_back();
  }
  while (!batch.empty() && batch.back().b == 0 && (s.m == 1 || batch.back().a == s.am * s.m)) {
    if (s.m == 1) s.am = batch.back().a;
    s.m *= batch.back().length;
    batch.pop_back();
  }
  s.batchRank = static_cast<int>(batch.size());
  s.summedRank = static_cast<int>(sums.size());
  std::copy(batch.begin(), batch.end(), s.batch.begin());
  std::copy(sums.begin(), sums.end(), s.summed.begin());
  return {};
}

// A block of a, a panel of b and a block of f32 results, each rounded up generously; 64-byte
// multiples.
size_t Matmul::workspacePerThread() const {
  const int64_t rows = std::min(shape.m, kBlockRows), depth = std::min(shape.k, kBlockDepth) + 32;
  const int64_t columns = std::min(shape.n, kBlockColumns) + 64;
  const int64_t blockA = std::max(rows * depth, kThin * (std::min(shape.k, kDotDepth) + 32));
  const int64_t panelB = (kBlockDepth + 16) * 64;
  const int64_t size = a.dtype == DType::f64 ? 8 : 4;
  return static_cast<size_t>(((blockA + panelB + rows * columns) * size + 192) / 64 * 64);
}

size_t Matmul::splitBytes() const {
  const int64_t splits = thinRows() || thinColumns() ? 1 : shape.splits();
  if (splits == 1) return 0;
  const int64_t size = a.dtype == DType::f64 ? 8 : 4;
  return static_cast<size_t>((splits * shape.batches() * shape.m * shape.n * size + 63) / 64 * 64);
}

size_t Matmul::workspace(int threads) const {
  return splitBytes() + workspacePerThread() * static_cast<size_t>(threads);
}

LONGSPAN_OPERATOR(Matmul, matmul);

}  // namespace longspan::ops
