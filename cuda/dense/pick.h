// Elements chosen along an axis by indices.
#pragma once

#include "cpp/core/tensor_view.h"
#include "cuda/context.h"

namespace longspan::cuda {

// y = x at `index`. `x` and `index` have the shape of y: x with stride 0 on the axes of the
// indices, the indices with stride 0 on the others where they name whole slices. `axis` is that of
// `indexed`, the tensor that x is a view of, in its own shape.
Status pick(const TensorView& indexed, int64_t axis, const TensorView& x, const TensorView& index,
            const TensorView& y, Context& context);

}  // namespace longspan::cuda
