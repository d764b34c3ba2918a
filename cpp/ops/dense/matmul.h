// matmul: y = activation(a b + bias) for [..., M, K] x [..., K, N], batch axes broadcast.
//
// Batch axes named in `summed` are summed over and leave the result, as if they were part of K: the
// gradient of a broadcast operand is one such product.
#pragma once

#include <array>

#include "cpp/cpu/level.h"
#include "cpp/ops/dense/activation.h"
#include "cpp/ops/operator.h"

namespace longspan::ops {

// A product in as few axes as its strides allow: batch axes of a that continue its rows join M,
// summed axes that continue K join K. Strides are in elements.
struct MatmulShape {
  struct Axis {
    int64_t length, a, b;
  };
  struct Offsets {
    int64_t a, b;
  };
  int64_t m = 0, n = 0, k = 0;
  int64_t am = 0, ak = 0, bk = 0, bn = 0;
  std::array<Axis, kMaxRank> batch{}, summed{};
  int batchRank = 0, summedRank = 0;

  // The axis that is summed over is cut into so many parts, summed by themselves and then added in
  // order: more than one where y is too small to be work for many threads. Depends on lengths
  // alone.
  int64_t splits() const;
  // Blocks of y times parts of K that keep many threads evenly busy: a function of the work, so
  // that no sum depends on the machine.
  int64_t wantedItems() const { return 2.0 * m * n * k * batches() * sums() > 1e9 ? 16 : 8; }

  int64_t batches() const { return count(batch, batchRank); }
  int64_t sums() const { return count(summed, summedRank); }
  Offsets batchOffsets(int64_t index) const { return offsets(batch, batchRank, index); }
  Offsets summedOffsets(int64_t index) const { return offsets(summed, summedRank, index); }

 private:
  static int64_t count(const std::array<Axis, kMaxRank>& axes, int rank);
  static Offsets offsets(const std::array<Axis, kMaxRank>& axes, int rank, int64_t index);
};

struct Matmul {
  static constexpr const char* name = "matmul";
  // Largest block of y that one work item computes, and of K that it takes at a time.
  static constexpr int64_t kBlockRows = 256, kBlockColumns = 512, kBlockDepth = 256;
  // A side of at most kThin rows is multiplied by dot products, kDotDepth elements at a time.
  static constexpr int64_t kThin = 8, kDotDepth = 4096;

  TensorView a, b, bias, y, preactivation;
  bool transposeA = false, transposeB = false;
  std::vector<int64_t> summed;
  Activation activation = Activation::none;
  bool keepPreactivation = false;
  bool allowTf32 = false;  // on a GPU f32 operands may be rounded to tf32; the CPU ignores it
  MatmulShape shape;       // set by validate()

  template <class V>
  void fields(V& v) {
    v.input("a", a);
    v.input("b", b);
    v.optional("bias", bias);
    v.flag("transposeA", transposeA);
    v.flag("transposeB", transposeB);
    v.integers("summed", summed);
    v.choice("activation", activation, activationNames());
    v.flag("keepPreactivation", keepPreactivation);
    v.flag("allowTf32", allowTf32);
    v.output("y", y);
    v.output("preactivation", preactivation);
  }
  Status validate();
  size_t workspace(int threads) const;
  size_t workspacePerThread() const;
  size_t splitBytes() const;  // sums of the parts, at the start of the workspace
  // Whether dot products along K serve: one side is thin, and K contiguous where the work is.
  bool thinRows() const { return shape.m <= kThin && shape.bk == 1 && shape.n > 1; }
  bool thinColumns() const { return shape.n <= kThin && shape.ak == 1; }
};

}  // namespace longspan::ops

namespace longspan::cpu {
LONGSPAN_CPU_KERNEL(ops::Matmul, matmul)
}
