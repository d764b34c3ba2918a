// How a product is computed on a GPU: which kernel, which tile, how many parts of K. A function of
// lengths, strides and the GPU alone, so that a call can be repeated bit for bit.
#pragma once

#include "cuda/context.h"
#include "cuda/dense/matmul_kernels.h"

namespace longspan::cuda::matmul {

enum class Kernel { wgmma, mma, tf32, fma };

struct Plan {
  Problem problem;  // without addresses; operands that are packed are described as they will lie
  Kernel kernel = Kernel::fma;
  TileSize tile{};
  bool packsA = false, packsB = false;
  Packing packA, packB;
  // Bytes of workspace, in this order.
  size_t packedA = 0, packedB = 0, partial = 0;
  size_t workspace() const { return packedA + packedB + partial; }
};

// Whether a grid reaches: less than 2^31 blocks, batch elements and slices of K.
bool fits(const ops::Matmul& p);

// `p` is validated and not empty.
Plan planOf(const ops::Matmul& p, const Gpu& gpu);

// An operand's first element.
inline const void* addressOf(const TensorView& view) {
  return view.base + view.offset * static_cast<int64_t>(sizeOf(view.dtype));
}

// Launches it.
Status runPlan(const Plan& plan, const ops::Matmul& p, Context& context);

}  // namespace longspan::cuda::matmul
