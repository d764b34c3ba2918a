// Launching a kernel on the emulator. Only bytes cross into the runtime, which copies them for a
// captured graph: nothing here needs code that the instrumentation would see.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "cuda/emulator/runtime.h"
#include "cuda/emulator/vector_types.h"

namespace longspan::emulator {

struct KernelCall {
  const void* kernel;                      // its address, which also names it in reports
  void (*run)(const void*, void* const*);  // calls the kernel with arguments[i]
  void* const* arguments;
  const size_t* sizes;
  int count;
};

cudaError_t launchKernel(const KernelCall& call, dim3 grid, dim3 block, size_t sharedBytes,
                         cudaStream_t stream);

// Calls a kernel. Uninstrumented, and only ever called through its address: the compiler would move
// loads of large arguments into an instrumented caller.
template <class Indices, class... P>
struct KernelCaller;
template <size_t... I, class... P>
struct KernelCaller<std::index_sequence<I...>, P...> {
  __attribute__((no_sanitize("thread"))) static void call(const void* kernel,
                                                          void* const* arguments) {
    static_cast<void>(arguments);
    reinterpret_cast<void (*)(P...)>(const_cast<void*>(kernel))(*static_cast<P*>(arguments[I])...);
  }
};

template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t sharedBytes,
                   cudaStream_t stream, A... arguments) {
  static_assert((std::is_trivially_copyable_v<P> && ...), "kernel arguments are copied as bytes");
  static_assert(sizeof...(P) == sizeof...(A), "one argument per parameter of the kernel");
  return [&](P... values) {
    void* const addresses[sizeof...(P) + 1] = {&values..., nullptr};
    const size_t sizes[sizeof...(P) + 1] = {sizeof(P)..., 0};
    return launchKernel({reinterpret_cast<const void*>(kernel),
                         &KernelCaller<std::index_sequence_for<P...>, P...>::call, addresses, sizes,
                         static_cast<int>(sizeof...(P))},
                        grid, block, sharedBytes, stream);
  }(static_cast<P>(arguments)...);
}

}  // namespace longspan::emulator
