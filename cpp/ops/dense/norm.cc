#include "cpp/ops/dense/norm.h"

#include "cpp/ops/check.h"

namespace longspan::ops {
namespace {

int64_t rowsOf(const TensorView& x) {
  int64_t n = 1;
  for (int i = 0; i + 1 < x.rank; ++i) n *= x.shape[i];
  return n;
}

// A scale or shift of the normalised axis.
Status perFeature(const char* field, const TensorView& t, const TensorView& x) {
  if (!t.defined()) return {};
  LONGSPAN_RETURN_IF_ERROR(check::floating(field, t));
  return check::shape(field, t, {x.dim(-1)});
}

Status inputs(const TensorView& x, const TensorView& residual, const TensorView& weight,
              double eps) {
  LONGSPAN_RETURN_IF_ERROR(check::floating("x", x));
  LONGSPAN_RETURN_IF_ERROR(check::rankAtLeast("x", x, 1));
  if (residual.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype("residual", residual, "x", x));
    LONGSPAN_RETURN_IF_ERROR(check::sameShape("residual", residual, "x", x));
  }
  LONGSPAN_RETURN_IF_ERROR(perFeature("weight", weight, x));
  LONGSPAN_RETURN_IF_ERROR(check::finite("eps", eps));
  if (eps < 0) return Status(Code::value, "eps", check::text(eps), "Use 0 or more");
  return {};
}

Status statistics(const char* field, const TensorView& t, const TensorView& s) {
  LONGSPAN_RETURN_IF_ERROR(check::dtype(field, t, accumulatorOf(s.dtype)));
  LONGSPAN_RETURN_IF_ERROR(check::contiguous(field, t));
  if (t.rank == s.rank - 1 && t.numel() == rowsOf(s)) return {};
  return Status(Code::shape, field, describe(t),
                std::string("It must have one element per row of s, ") + describe(s));
}

Status gradients(const TensorView& gradY, const TensorView& gradSum, const TensorView& s,
                 const TensorView& weight) {
  LONGSPAN_RETURN_IF_ERROR(check::floating("s", s));
  LONGSPAN_RETURN_IF_ERROR(check::rankAtLeast("s", s, 1));
  LONGSPAN_RETURN_IF_ERROR(check::sameDtype("gradY", gradY, "s", s));
  LONGSPAN_RETURN_IF_ERROR(check::sameShape("gradY", gradY, "s", s));
  if (gradSum.defined()) {
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype("gradSum", gradSum, "s", s));
    LONGSPAN_RETURN_IF_ERROR(check::sameShape("gradSum", gradSum, "s", s));
  }
  return perFeature("weight", weight, s);
}

Status needsWeight(const TensorView& weight) {
  if (weight.defined()) return {};
  return Status(Code::value, "weight", "absent", "A gradient of weight or bias needs the weight");
}

// Weight and bias as arithmetic rows, then three rows per thread.
size_t rowScratch(const TensorView& x, int threads) {
  return sizeOf(accumulatorOf(x.dtype)) * static_cast<size_t>(x.dim(-1)) *
         static_cast<size_t>(2 + 3 * threads);
}

// The same, then one row of partial sums per block for each of two gradients.
size_t backwardScratch(const TensorView& s, int threads, bool sums) {
  const int64_t rows = rowsOf(s), perBlock = normRowsPerBlock(rows),
                blocks = (rows + perBlock - 1) / perBlock;
  const auto partial = static_cast<size_t>(sums ? 2 * blocks * s.dim(-1) : 0);
  return rowScratch(s, threads) + sizeOf(accumulatorOf(s.dtype)) * partial;
}

}  // namespace

Status LayerNorm::validate() {
  LONGSPAN_RETURN_IF_ERROR(inputs(x, residual, weight, eps));
  LONGSPAN_RETURN_IF_ERROR(perFeature("bias", bias, x));
  if (bias.defined()) {
    if (!weight.defined())
      return Status(Code::value, "weight", "absent", "A bias needs a weight beside it");
    LONGSPAN_RETURN_IF_ERROR(check::sameDtype("bias", bias, "weight", weight));
  }
  y = TensorView::like(x);
  if (residual.defined()) sum = TensorView::like(x);
  mean = TensorView::ofShape(accumulatorOf(x.dtype), x.shape.data(), x.rank - 1);
  scale = TensorView::like(mean);
  return {};
}

Status RmsNorm::validate() {
  LONGSPAN_RETURN_IF_ERROR(inputs(x, residual, weight, eps));
  y = TensorView::like(x);
  if (residual.defined()) sum = TensorView::like(x);
  scale = TensorView::ofShape(accumulatorOf(x.dtype), x.shape.data(), x.rank - 1);
  return {};
}

Status LayerNormBackward::validate() {
  LONGSPAN_RETURN_IF_ERROR(gradients(gradY, gradSum, s, weight));
  LONGSPAN_RETURN_IF_ERROR(statistics("mean", mean, s));
  LONGSPAN_RETURN_IF_ERROR(statistics("scale", scale, s));
  if (wantS) gradS = TensorView::like(s);
  if (wantWeight || wantBias) LONGSPAN_RETURN_IF_ERROR(needsWeight(weight));
  if (wantWeight) gradWeight = TensorView::like(weight);
  if (wantBias) gradBias = TensorView::like(weight);
  return {};
}

Status RmsNormBackward::validate() {
  LONGSPAN_RETURN_IF_ERROR(gradients(gradY, gradSum, s, weight));
  LONGSPAN_RETURN_IF_ERROR(statistics("scale", scale, s));
  if (wantS) gradS = TensorView::like(s);
  if (wantWeight) {
    LONGSPAN_RETURN_IF_ERROR(needsWeight(weight));
    gradWeight = TensorView::like(weight);
  }
  return {};
}

size_t LayerNorm::workspace(int threads) const { return rowScratch(x, threads); }
size_t RmsNorm::workspace(int threads) const { return rowScratch(x, threads); }
size_t LayerNormBackward::workspace(int threads) const {
  return backwardScratch(s, threads, wantWeight || wantBias);
}
size_t RmsNormBackward::workspace(int threads) const {
  return backwardScratch(s, threads, wantWeight);
}

LONGSPAN_OPERATOR(LayerNorm, layerNorm);
LONGSPAN_OPERATOR(LayerNormBackward, layerNormBackward);
LONGSPAN_OPERATOR(RmsNorm, rmsNorm);
LONGSPAN_OPERATOR(RmsNormBackward, rmsNormBackward);

}  // namespace longspan::ops
