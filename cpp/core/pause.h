// What a loop that waits for another thread does between two looks.
#pragma once

namespace longspan {

inline void pauseCpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace longspan
