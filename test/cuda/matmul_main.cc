// matmul's kernels on the emulator: every tile, layout and part of K over ragged shapes, against
// float64; several schedules, copies that land late and at random times; no report tolerated. And
// which kernels are planned for which GPUs.
//
//   matmul_main [NAME]               all cases, or those of that name
//   matmul_main --cublaslt EXPECTED  products by cuBLASLt, see matmul_cublaslt.cc
//
// Exit code 1 on any failure, a line for each.
#include <cstdio>
#include <cstring>
#include <string>

#include "test/cuda/control.h"
#include "test/cuda/matmul_product.h"

namespace longspan::cuda {

// The backend's own is part of its device; here a failed launch shows what the emulator found.
Status statusOf(cudaError_t error) {
  if (error == cudaSuccess) return {};
  std::string text = cudaGetErrorString(error);
  for (const std::string& line : emulator::lastLaunch().errors) text += "\n  " + line;
  return Status(Code::failed, "", text, "");
}

}  // namespace longspan::cuda

// The CPU's kernels are not linked.
namespace longspan::cpu {
Level level() { return Level::portable; }
namespace portable {
Status matmul(const ops::Matmul&, Context&) { return {}; }
}  // namespace portable
namespace v3 {
Status matmul(const ops::Matmul&, Context&) { return {}; }
}  // namespace v3
namespace v4 {
Status matmul(const ops::Matmul&, Context&) { return {}; }
}  // namespace v4
}  // namespace longspan::cpu

namespace longspan::matmul_test {
namespace {

// Empty, or what is wrong.
std::string run(const Case& c, unsigned seed) {
  Product product(c, seed);
  const ops::Matmul& p = product.p;
  // So few multiprocessors that blocks which stay on theirs walk over several tiles.
  const cuda::Gpu gpu{0, c.kernel == Kernel::wgmma ? 9 : 8, 0, 2, 232448};
  mm::Plan plan = mm::planOf(p, gpu);
  if (c.pack != (plan.packsA || plan.packsB)) return "planned another packing";
  plan.kernel = c.kernel;
  plan.tile = c.tile;
  plan.problem.splits = c.splits;
  plan.partial = static_cast<size_t>(c.splits * c.batches * c.m * c.n * 4);
  std::byte* scratch = product.memory.take(plan.workspace());
  cuda::Context context{nullptr, {scratch, plan.workspace()}, gpu};
  if (Status s = mm::runPlan(plan, p, context); !s.ok()) return s.detail().value;
  if (const uint64_t conflicts = emulator::lastLaunch().stats.ldmatrixExtraPhases) {
    return std::to_string(conflicts) + " extra phases of ldmatrix";
  }
  return product.check();
}

}  // namespace
}  // namespace longspan::matmul_test

int main(int argc, char** argv) {
  using namespace longspan;
  using namespace longspan::matmul_test;
  if (argc == 3 && std::strcmp(argv[1], "--cublaslt") == 0) return runCublasLt(argv[2]);
  const std::vector<Case> all = cases();
  int ran = 0;
  int failures = 0;
  if (const std::string wrong = checkPlans(); !wrong.empty()) {
    ++failures;
    std::fputs(wrong.c_str(), stdout);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    if (argc > 1 && std::strcmp(argv[1], all[i].name) != 0) continue;
    if (all[i].kernel == Kernel::wgmma && !hasCode(90)) continue;
    if (all[i].kernel == Kernel::mma && all[i].tile == mm::kLargeTile && !hasCode(80)) continue;
    ++ran;
    for (unsigned seed = 0; seed < 3; ++seed) {
      emulator::Settings settings = emulator::settings();
      settings.seed = seed;
      settings.lateAsync = seed != 1;
      emulator::setSettings(settings);
      const std::string wrong = run(all[i], seed + 1);
      if (wrong.empty()) continue;
      ++failures;
      std::printf("case %zu, %s, tile %d x %d, %s, seed %u: %s\n", i, all[i].name, all[i].tile.rows,
                  all[i].tile.columns, nameOf(all[i].type), seed, wrong.c_str());
      break;
    }
  }
  std::printf("%d of %d cases failed\n", failures, ran);
  return failures == 0 && ran > 0 ? 0 : 1;
}
