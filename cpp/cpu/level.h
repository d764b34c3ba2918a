// Instruction-set levels of the CPU kernels.
//
// A *.simd.cc file is compiled once per level with LONGSPAN_LEVEL set to portable, v3 (AVX2) or v4
// (AVX-512), and defines its kernels inside `namespace LONGSPAN_LEVEL`. LONGSPAN_CPU_KERNEL,
// written in a header, declares one kernel for all levels and the function that calls the chosen
// one.
#pragma once

#include "cpp/ops/operator.h"

namespace longspan::cpu {

enum class Level : int { portable, v3, v4 };

// Chosen once: the best this CPU offers, or LONGSPAN_CPU_LEVEL when that names a lower one.
Level level();
const char* levelName();

// Function pointers by level.
template <class F>
struct ByLevel {
  F portable, v3, v4;
  F chosen() const {
    switch (level()) {
      case Level::v4:
        return v4;
      case Level::v3:
        return v3;
      default:
        return portable;
    }
  }
};

}  // namespace longspan::cpu

#if defined(__x86_64__) || defined(_M_X64)
#define LONGSPAN_LEVEL_V3(name) v3::name
#define LONGSPAN_LEVEL_V4(name) v4::name
#else
#define LONGSPAN_LEVEL_V3(name) portable::name
#define LONGSPAN_LEVEL_V4(name) portable::name
#endif

// Declares `ret name args` in every level's namespace, and `name##ByLevel()` that returns the
// pointer of the chosen level.
#define LONGSPAN_BY_LEVEL(ret, name, ...)                                      \
  namespace portable {                                                         \
  ret name(__VA_ARGS__);                                                       \
  }                                                                            \
  namespace v3 {                                                               \
  ret name(__VA_ARGS__);                                                       \
  }                                                                            \
  namespace v4 {                                                               \
  ret name(__VA_ARGS__);                                                       \
  }                                                                            \
  inline auto name##ByLevel() {                                                \
    static const auto chosen =                                                 \
        ByLevel<ret (*)(__VA_ARGS__)>{portable::name, LONGSPAN_LEVEL_V3(name), \
                                      LONGSPAN_LEVEL_V4(name)}                 \
            .chosen();                                                         \
    return chosen;                                                             \
  }

// The same for an operator's kernel, plus `Status name(const Params&, Context&)` for registration.
#define LONGSPAN_CPU_KERNEL(Params, name)                      \
  LONGSPAN_BY_LEVEL(Status, name, const Params&, Context&)     \
  inline Status name(const Params& params, Context& context) { \
    return name##ByLevel()(params, context);                   \
  }
