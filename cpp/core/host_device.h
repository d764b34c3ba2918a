// Marks functions of plain C++ that kernels call too.
#pragma once

#ifdef __CUDACC__
#define LONGSPAN_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LONGSPAN_HOST_DEVICE inline
#endif
