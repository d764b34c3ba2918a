// The entry points that -fsanitize=thread puts before every load and store of instrumented files.
// libtsan is never linked: these are ours. Host code in the same files (launchers) passes through
// here too, on any thread; it touches neither window, so it is let through without a lock.
#include <dlfcn.h>

#include <cstring>

#include "cuda/emulator/access.h"

#define LONGSPAN_PC __builtin_return_address(0)

namespace longspan::emulator {
namespace {

bool onStack(const Fiber& fiber, const void* p) {
  return static_cast<size_t>(static_cast<const char*>(p) - fiber.stack) < kStackBytes;
}

// Memory of the host other than constants of a loaded binary: a GPU could not reach it.
[[gnu::noinline]] void accessHost(const void* p, const void* pc) {
  constexpr int kEntries = 64;
  static uintptr_t allowed[kEntries];  // pages already looked up, plus 1
  const uintptr_t page = reinterpret_cast<uintptr_t>(p) >> 12;
  uintptr_t& entry = allowed[page % kEntries];
  if (entry == page + 1) return;
  Dl_info info{};
  if (dladdr(p, &info) == 0) fatalAt("HOST MEMORY (or a null pointer) touched by a kernel", pc);
  entry = page + 1;
}

inline void access(const void* p, size_t bytes, bool write, const void* pc) {
  Fiber* fiber = running;
  if (fiber == nullptr) return;
  Machine& m = machine();
  if (m.memory.covers(p)) {
    accessGlobal(*fiber, p, bytes, write, pc);
  } else if (m.inWindow(p)) {
    accessShared(*fiber, sharedOffset(p, "access to shared memory", pc), bytes, write, pc);
  } else if (!onStack(*fiber, p) && m.onKernelThread()) {
    accessHost(p, pc);
  }
}

}  // namespace
}  // namespace longspan::emulator

using longspan::emulator::access;

#define LONGSPAN_HOOKS(n)                                                                 \
  extern "C" void __tsan_read##n(void* p) { access(p, n, false, LONGSPAN_PC); }           \
  extern "C" void __tsan_write##n(void* p) { access(p, n, true, LONGSPAN_PC); }           \
  extern "C" void __tsan_unaligned_read##n(void* p) { access(p, n, false, LONGSPAN_PC); } \
  extern "C" void __tsan_unaligned_write##n(void* p) { access(p, n, true, LONGSPAN_PC); } \
  extern "C" void __tsan_volatile_read##n(void* p) { access(p, n, false, LONGSPAN_PC); }  \
  extern "C" void __tsan_volatile_write##n(void* p) { access(p, n, true, LONGSPAN_PC); }  \
  extern "C" void __tsan_read_write##n(void* p) {                                         \
    access(p, n, false, LONGSPAN_PC);                                                     \
    access(p, n, true, LONGSPAN_PC);                                                      \
  }
LONGSPAN_HOOKS(1)
LONGSPAN_HOOKS(2)
LONGSPAN_HOOKS(4)
LONGSPAN_HOOKS(8)
LONGSPAN_HOOKS(16)

extern "C" {
void __tsan_read_range(void* p, size_t n) { access(p, n, false, LONGSPAN_PC); }
void __tsan_write_range(void* p, size_t n) { access(p, n, true, LONGSPAN_PC); }
void* __tsan_memcpy(void* to, const void* from, size_t n) {
  access(from, n, false, LONGSPAN_PC);
  access(to, n, true, LONGSPAN_PC);
  return std::memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, size_t n) {
  access(from, n, false, LONGSPAN_PC);
  access(to, n, true, LONGSPAN_PC);
  return std::memmove(to, from, n);
}
void* __tsan_memset(void* to, int value, size_t n) {
  access(to, n, true, LONGSPAN_PC);
  return std::memset(to, value, n);
}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}
}

// Atomic builtins of host code (guards of static objects, reference counts): done for real.
#define LONGSPAN_ATOMIC_HOOKS(bits, T)                                                             \
  extern "C" T __tsan_atomic##bits##_load(const volatile T* p, int) {                              \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  extern "C" void __tsan_atomic##bits##_store(volatile T* p, T x, int) {                           \
    __atomic_store_n(p, x, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_exchange(volatile T* p, T x, int) {                           \
    return __atomic_exchange_n(p, x, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_fetch_add(volatile T* p, T x, int) {                          \
    return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_fetch_sub(volatile T* p, T x, int) {                          \
    return __atomic_fetch_sub(p, x, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_fetch_or(volatile T* p, T x, int) {                           \
    return __atomic_fetch_or(p, x, __ATOMIC_SEQ_CST);                                              \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_fetch_and(volatile T* p, T x, int) {                          \
    return __atomic_fetch_and(p, x, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_fetch_xor(volatile T* p, T x, int) {                          \
    return __atomic_fetch_xor(p, x, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                \
  extern "C" int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T x,    \
                                                               int, int) {                         \
    return __atomic_compare_exchange_n(p, expected, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                \
  extern "C" int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* expected, T x, int, \
                                                             int) {                                \
    return __atomic_compare_exchange_n(p, expected, x, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
  }                                                                                                \
  extern "C" T __tsan_atomic##bits##_compare_exchange_val(volatile T* p, T expected, T x, int,     \
                                                          int) {                                   \
    __atomic_compare_exchange_n(p, &expected, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);       \
    return expected;                                                                               \
  }
LONGSPAN_ATOMIC_HOOKS(8, uint8_t)
LONGSPAN_ATOMIC_HOOKS(16, uint16_t)
LONGSPAN_ATOMIC_HOOKS(32, uint32_t)
LONGSPAN_ATOMIC_HOOKS(64, uint64_t)
