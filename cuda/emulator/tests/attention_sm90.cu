// The sm_90a attention kernel: right on every shape and schedule; every planted bug is flagged.
#include "cuda/emulator/tests/attention_check.h"
#include "cuda/emulator/tests/attention_sm90.cuh"

namespace longspan::cuda::test {
namespace {

TensorMap mapOf(const void* base, const Shape& s, int length) {
  TensorMapLayout layout;
  layout.rank = 4;
  layout.base = base;
  layout.swizzleBytes = 128;
  const auto heads = static_cast<uint64_t>(s.heads), rows = static_cast<uint64_t>(length);
  const uint64_t extent[4] = {64, heads, rows, static_cast<uint64_t>(s.batch)};
  const uint64_t stride[4] = {2, 128, 128 * heads, 128 * heads * rows};
  const uint32_t box[4] = {64, 1, 64, 1};
  for (int i = 0; i < 4; ++i) {
    layout.extent[i] = extent[i];
    layout.strideBytes[i] = stride[i];
    layout.box[i] = box[i];
  }
  TensorMap map;
  expectClean(encodeTensorMap(&map, layout));
  return map;
}

template <bool Causal, bool Pipelined, Planted Bug>
std::string attend(const Shape& s) {
  const Problem<bf16> problem(s, Causal);
  const dim3 grid(static_cast<uint32_t>((s.queries + 127) / 128), static_cast<uint32_t>(s.heads),
                  static_cast<uint32_t>(s.batch));
  return problem.judge(launch(attentionSm90<Causal, Pipelined, Bug>, grid, dim3(Sm90::kThreads),
                              size_t{Sm90::kShared}, nullptr, mapOf(problem.dq, s, s.queries),
                              mapOf(problem.dk, s, s.keys), mapOf(problem.dv, s, s.keys),
                              problem.params()));
}

template <bool Causal, bool Pipelined>
void expectRight() {
  forSchedules([] {
    for (const Shape& shape : kShapes) {
      const std::string wrong = attend<Causal, Pipelined, Planted::none>(shape);
      expect(wrong.empty(), wrong);
    }
  });
}

LONGSPAN_CASE("attention_sm90", "causal") { expectRight<true, false>(); }
LONGSPAN_CASE("attention_sm90", "full") { expectRight<false, false>(); }
LONGSPAN_CASE("attention_sm90", "causal, pipelined") { expectRight<true, true>(); }

#define LONGSPAN_PLANTED(bug)                         \
  LONGSPAN_CASE("attention_sm90", "planted: " #bug) { \
    expectFlagged(attend<true, false, Planted::bug>); \
  }
LONGSPAN_PLANTED(causalOffByOne)
LONGSPAN_PLANTED(fullParityFixed)
LONGSPAN_PLANTED(emptyParityWrong)
LONGSPAN_PLANTED(noWaitForEmpty)
LONGSPAN_PLANTED(expectTooMuch)
LONGSPAN_PLANTED(noWgmmaWait)
LONGSPAN_PLANTED(noWgmmaFence)
LONGSPAN_PLANTED(releasedEarly)
LONGSPAN_PLANTED(noWaitForQ)
LONGSPAN_PLANTED(noBarrierAfterInit)
LONGSPAN_PLANTED(noFenceAfterInit)
LONGSPAN_PLANTED(oneThreadReleases)
LONGSPAN_PLANTED(wrongStride)

LONGSPAN_CASE("attention_sm90", "planted, pipelined: waitsForTooFew") {
  expectFlagged(attend<true, true, Planted::waitsForTooFew>);
}
LONGSPAN_CASE("attention_sm90", "planted, pipelined: rescaledInFlight") {
  expectFlagged(attend<true, true, Planted::rescaledInFlight>);
}

}  // namespace
}  // namespace longspan::cuda::test
