#include "cpp/ops/sparse/lsh_buckets.h"

#include "cpp/ops/check.h"
#include "cpp/ops/sparse/tokens.h"

namespace longspan::ops {

Status LshBuckets::validate() {
  LONGSPAN_RETURN_IF_ERROR(sparseTokens("x", x));
  LONGSPAN_RETURN_IF_ERROR(check::floating("rotations", rotations));
  LONGSPAN_RETURN_IF_ERROR(check::rank("rotations", rotations, 4));
  if (factors.empty() || factors.size() > static_cast<size_t>(kMostFactors)) {
    return Status(
        Code::value, "factors", std::to_string(factors.size()) + " of them",
        "Give the number of buckets, or up to " + std::to_string(kMostFactors) + " factors of it");
  }
  double product = 1;
  int64_t columns = 0;
  for (int64_t f : factors) {
    if (f < 2 || f % 2 != 0) {
      return Status(Code::value, "factors", std::to_string(f),
                    "Use even numbers of buckets from 2 on: a column of the rotation is two");
    }
    product *= static_cast<double>(f);
    columns += f / 2;
  }
  if (product > 0x1p22) {
    return Status(Code::value, "factors", check::text(product) + " buckets",
                  "Use at most 2^22 of them");
  }
  if (rounds() < 1) {
    return Status(Code::shape, "rotations", describe(rotations), "Hash in at least one round");
  }
  const int64_t heads = rotations.shape[0] == 1 ? 1 : x.shape[1];
  LONGSPAN_RETURN_IF_ERROR(
      check::shape("rotations", rotations, {heads, rounds(), x.shape[3], columns}));
  LONGSPAN_RETURN_IF_ERROR(sparseLengths("lengths", lengths, x));
  buckets = TensorView::ofShape(DType::i32, {x.shape[0], x.shape[1], rounds(), x.shape[2]});
  return {};
}

size_t LshBuckets::workspace(int threads) const {
  return projectionWorkspace(x, rotations.shape[0] * rounds() * columns(), threads);
}

LONGSPAN_OPERATOR(LshBuckets, lshBuckets);

}  // namespace longspan::ops
