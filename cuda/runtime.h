// The CUDA runtime, real or emulated, under CUDA's own names.
#pragma once

#if defined(LONGSPAN_EMULATED)
#include "cuda/emulator/runtime.h"
#else
#include <cuda.h>
#include <cuda_runtime.h>
#endif
