// What a launcher gets, and how it is registered. A launcher lives in cuda/<family>/<operator>.cu:
//
//   namespace longspan::cuda {
//   Status rmsNorm(const ops::RmsNorm& p, Context& context) { ...; return launched(launch(...)); }
//   LONGSPAN_CUDA_OPERATOR(RmsNorm, rmsNorm);
//   }
//
// It receives the params with every tensor's device address bound, enqueues on context.stream,
// never allocates and never waits. Scratch memory is declared by a second function, `size_t
// rmsNormWorkspace(const ops::RmsNorm&, const Gpu&)`, and LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE.
#pragma once

#include "cpp/core/status.h"
#include "cpp/core/workspace.h"
#include "cpp/ops/operator.h"
#include "cuda/runtime.h"

namespace longspan::cuda {

// What kernels are chosen by.
struct Gpu {
  int index = 0;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  size_t sharedPerBlock = 0;  // bytes one block may have, opted in
  int capability() const { return major * 10 + minor; }
};

struct Context {
  cudaStream_t stream;
  Workspace workspace;
  const Gpu& gpu;
};

// The outcome of a CUDA call as a Status.
Status statusOf(cudaError_t error);
// The same for a launch.
inline Status launched(cudaError_t error) {
  return error == cudaSuccess ? Status() : statusOf(error);
}

template <class P>
struct KernelRegistrar {
  KernelRegistrar(Status (*run)(const P&, Context&), size_t (*workspace)(const P&, const Gpu&),
                  bool f64) {
    KernelOf<P>::run = run;
    KernelOf<P>::workspace = workspace;
    KernelOf<P>::f64 = f64;
  }
};

}  // namespace longspan::cuda

#define LONGSPAN_CUDA_OPERATOR(Params, kernel)                               \
  static const KernelRegistrar<::longspan::ops::Params> registrar_##Params { \
    &kernel, nullptr, false                                                  \
  }
#define LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Params, kernel, workspace)     \
  static const KernelRegistrar<::longspan::ops::Params> registrar_##Params { \
    &kernel, &workspace, false                                               \
  }
// For the few that also take f64: copies and fills.
#define LONGSPAN_CUDA_OPERATOR_F64(Params, kernel)                           \
  static const KernelRegistrar<::longspan::ops::Params> registrar_##Params { \
    &kernel, nullptr, true                                                   \
  }
