// Sorting lines of a tensor on the GPU; kernels in sort.cu.
#pragma once

#include "cuda/context.h"
#include "cuda/rows.cuh"

namespace longspan::cuda {

struct SortJob {
  RowSet x;  // lines along an axis, of any dtype
  DType dtype;
  bool descending;
  int64_t taken;  // how many of each line are wanted, from the first on
  // What is written of them: elements and their positions; null where not wanted.
  RowSet values, indices;
};

size_t sortWorkspace(int64_t lines, int64_t length, int64_t taken);
Status sortLines(const SortJob& job, std::byte* workspace, cudaStream_t stream);

}  // namespace longspan::cuda
