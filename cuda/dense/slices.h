// Sums of whole slices by their ids: the gradient of indexSelect, and scatterAdd where all elements
// of a slice have one index. Kernels in index_select.cu.
#pragma once

#include "cpp/core/tensor_view.h"
#include "cuda/context.h"

namespace longspan::cuda {

struct SliceSums {
  TensorView from;  // has the axes of the ids from `axis` on, in place of that axis of `to`
  TensorView ids;
  TensorView to;
  int64_t axis;
  int64_t skip;  // an id that is left out, as those out of range are
  bool onto;     // what `to` holds counts; else slices without an id are left as they are
};

// The workspace holds sortBytes (radix_sort.cuh) of the ids.
Status sumSlices(const SliceSums& p, Context& context);

}  // namespace longspan::cuda
