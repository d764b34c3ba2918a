// Whether kernels whose bodies stand inside #if LONGSPAN_SM90A may be launched.
#pragma once

#include "cuda/context.h"

namespace longspan::cuda {

// True on a GPU of compute capability 9.0 for which the driver has taken this build's code for
// sm_90a: it may also take that for sm_90, or compile PTX, where such kernels are empty.
bool runsSm90a(const Gpu& gpu);

}  // namespace longspan::cuda
