// The bits of elements. Plain C++: conversions of cpp/core/half.h must not meet those of the GPU.
#pragma once

#include "cpp/core/dtype.h"

namespace longspan::cuda {

// The bits of a number as an element of `dtype`, in the low bytes.
uint64_t elementBits(DType dtype, double x);

// What stands for an element that an index out of range should have named: NaN in floats, -1 in
// i32, 255 in u8. A GPU cannot report such an index without stopping, so it shows in the data.
template <class U>
inline constexpr U kNoElement = static_cast<U>(~U{0});

}  // namespace longspan::cuda
