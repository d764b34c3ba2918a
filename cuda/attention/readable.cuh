// Operands that bulk copies (TMA) can read: where one cannot be read as it lies, a contiguous copy
// of it in the workspace, with rows on 16 bytes. Host code.
//
// Cost of a copy: its bytes read and written once, and a launch.
#pragma once

#include <algorithm>

#include "cuda/attention/hopper.cuh"
#include "cuda/dense/move.cuh"

namespace longspan::cuda {

// `t` is [B, H, tokens, dim]; the copy lies at `memory`.
inline TensorView copyAt(const TensorView& t, std::byte* memory) {
  const int64_t run = 16 / static_cast<int64_t>(sizeOf(t.dtype));
  TensorView copy = TensorView::ofShape(
      t.dtype, {t.shape[0], t.shape[1], t.shape[2], (t.shape[3] + run - 1) / run * run});
  copy.shape[3] = t.shape[3];
  copy.base = memory;
  return copy;
}

// Bytes of that copy, or 0 where the operand can be read as it lies. Memory of tensors begins on 16
// bytes, so that offsets and strides decide. An operand without tokens has memory that its map can
// name.
inline size_t copiedBytes(TensorView t) {
  constexpr int64_t kStep = 256;
  t.base = nullptr;
  const auto axis = [&](int i) { return static_cast<int>(t.shape[i]); };
  if (mapped(operandOf(t), axis(0), axis(1), axis(2))) return 0;
  const int64_t elements = t.shape[0] * t.shape[1] * t.shape[2] * copyAt(t, nullptr).stride[2];
  const int64_t bytes = elements * static_cast<int64_t>(sizeOf(t.dtype));
  return static_cast<size_t>(std::max(kStep, (bytes + kStep - 1) / kStep * kStep));
}

// `operand` becomes one of `t` that can be read; `memory` is moved past what its copy takes.
inline Status makeReadable(const TensorView& t, Operand& operand, std::byte*& memory,
                           Context& context) {
  const size_t bytes = copiedBytes(t);
  if (bytes == 0) return {};
  const TensorView copy = copyAt(t, memory);
  if (t.numel() > 0) LONGSPAN_RETURN_IF_ERROR(moveElements(t, copy, context));
  operand = operandOf(copy);
  memory += bytes;
  return {};
}

}  // namespace longspan::cuda
