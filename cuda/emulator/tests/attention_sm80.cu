// The sm_80 attention kernel: right on every shape and schedule; every planted bug is flagged.
#include "cuda/emulator/tests/attention_check.h"
#include "cuda/emulator/tests/attention_sm80.cuh"

namespace longspan::cuda::test {
namespace {

template <class T, bool Causal, Planted Bug>
std::string attend(const Shape& s) {
  const Problem<T> problem(s, Causal);
  const dim3 grid(static_cast<uint32_t>((s.queries + 63) / 64), static_cast<uint32_t>(s.heads),
                  static_cast<uint32_t>(s.batch));
  return problem.judge(launch(attentionSm80<T, Causal, Bug>, grid, dim3(Sm80::kThreads),
                              size_t{Sm80::kShared}, nullptr, problem.params()));
}

template <class T, bool Causal>
void expectRight() {
  forSchedules([] {
    for (const Shape& shape : kShapes) {
      const std::string wrong = attend<T, Causal, Planted::none>(shape);
      expect(wrong.empty(), wrong);
    }
  });
}

LONGSPAN_CASE("attention_sm80", "causal, bf16") { expectRight<bf16, true>(); }
LONGSPAN_CASE("attention_sm80", "full, bf16") { expectRight<bf16, false>(); }
LONGSPAN_CASE("attention_sm80", "causal, f16") { expectRight<f16, true>(); }

#define LONGSPAN_PLANTED(bug, ...)                                              \
  LONGSPAN_CASE("attention_sm80", "planted: " #bug) {                           \
    expectFlagged(attend<bf16, true, Planted::bug> __VA_OPT__(, ) __VA_ARGS__); \
  }
LONGSPAN_PLANTED(causalOffByOne)
LONGSPAN_PLANTED(noBarrierBeforeReuse)
LONGSPAN_PLANTED(noBarrierAfterWait)
LONGSPAN_PLANTED(waitOneGroupShort)
LONGSPAN_PLANTED(wrongSwizzle)
LONGSPAN_PLANTED(badSwizzle)
LONGSPAN_PLANTED(noRowPredicate, false)  // only the ragged shape can show it

}  // namespace
}  // namespace longspan::cuda::test
