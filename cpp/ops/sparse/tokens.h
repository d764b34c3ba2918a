// What operators on heads of tokens share.
#pragma once

#include "cpp/core/status.h"
#include "cpp/core/tensor_view.h"

namespace longspan::ops {

// [B, H, N, D] of floats, with fewer than 2^31 tokens of at most kMostDim elements.
inline constexpr int64_t kMostDim = 1024;
Status sparseTokens(const char* field, const TensorView& x);
// i32 [B], or absent: how many tokens of each entry of x are no padding.
Status sparseLengths(const char* field, const TensorView& lengths, const TensorView& x);

// Tokens that the CPU works on together, at most.
inline constexpr int64_t kMostTileTokens = 64;
// Bytes of scratch for products with so many columns (cpp/cpu/sparse/projection.h): the columns as
// arithmetic wants them, and a tile of tokens per thread.
size_t projectionWorkspace(const TensorView& x, int64_t columns, int threads);

}  // namespace longspan::ops
