// matmul through its registration, with the environment's LONGSPAN_CUBLASLT and a library that
// fake_cublaslt.cc stands in for. EXPECTED says what is to come of it:
//
//   used       what cuBLASLt can express is computed there, the rest by this package's kernels
//   unused     nothing is, and everything is right; the library may have been tried
//   untouched  the same, and it was never loaded
//   failed     what it can express ends in an error that names its call
//   missing    the same, for want of a library
//   hardware   results are right, whoever computes them
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include "cuda/cublaslt.h"
#include "test/cuda/matmul_product.h"

namespace longspan::matmul_test {
namespace {

// Calls of cublasLtMatmul so far; -1 where the library is not the fake.
int64_t callsSoFar() {
  const char* name = std::getenv("LONGSPAN_CUBLASLT_LIBRARY");
  void* handle = name == nullptr ? nullptr : dlopen(name, RTLD_NOW | RTLD_NOLOAD);
  if (handle == nullptr) return -1;
  const auto calls = reinterpret_cast<int64_t (*)()>(dlsym(handle, "fakeCublasLtCalls"));
  const int64_t count = calls == nullptr ? -1 : calls();
  dlclose(handle);
  return count;
}

struct Run {
  Status status;
  std::string wrong;
  int64_t calls;
};

const cuda::Gpu kGpu{0, 8, 0, 2, 232448};

Status launchOn(const ops::Matmul& p, Memory& memory, cudaStream_t stream) {
  const size_t bytes = cuda::KernelOf<ops::Matmul>::workspace(p, kGpu);
  cuda::Context context{stream, {memory.take(bytes), bytes}, kGpu};
  return cuda::KernelOf<ops::Matmul>::run(p, context);
}

Run runOnce(Product& product) {
  product.renew();
  const int64_t before = callsSoFar();
  Run run;
  run.status = launchOn(product.p, product.memory, nullptr);
  cudaDeviceSynchronize();
  if (run.status.ok()) run.wrong = product.check();
  run.calls = callsSoFar() - (before < 0 ? 0 : before);
  return run;
}

// The calls that a recording of the product makes, and whether its replay is right.
Run record(Product& product) {
  product.renew();
  const int64_t before = callsSoFar();
  Run run;
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaStreamCreate(&stream);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed);
  run.status = launchOn(product.p, product.memory, stream);
  cudaStreamEndCapture(stream, &graph);
  cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphLaunch(executable, stream);
  cudaStreamSynchronize(stream);
  run.wrong = product.check();
  run.calls = callsSoFar() - (before < 0 ? 0 : before);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return run;
}

struct Wanted {
  Case c;
  bool expressible;
};

std::vector<Wanted> products() {
  const Layout k{}, k8{Layout::k, 8, 8}, rows{Layout::rows, 0, 0}, odd{Layout::k, 1, 3};
  const DType h = DType::bf16, f = DType::f32;
  const Kernel mma = Kernel::mma, tf32 = Kernel::tf32;
  using A = ops::Activation;
  const auto with = [](Case c, A activation, bool bias, bool keep) {
    c.activation = activation, c.bias = bias, c.keep = keep;
    return c;
  };
  const Case plain{"plain", mma, {}, h, 24, 16, 40, k, k};
  return {
      {{"k k", mma, {}, h, 29, 40, 72, k, k8}, true},
      {{"k rows", mma, {}, DType::f16, 13, 24, 32, k8, rows}, true},
      {{"rows k", mma, {}, h, 16, 21, 48, rows, k}, true},
      {{"rows rows", mma, {}, DType::f16, 24, 32, 19, rows, rows}, true},
      {{"one row", mma, {}, h, 1, 24, 40, k, k}, true},
      {{"batch", mma, {}, h, 24, 16, 40, k, rows, 1, 5}, true},
      {{"batch, one b", mma, {}, h, 24, 16, 40, rows, k, 1, 3, 1, true}, true},
      {with(plain, A::none, true, false), true},
      {with(plain, A::relu, true, false), true},
      {with(plain, A::relu, false, false), true},
      {{"tf32", tf32, {}, f, 20, 24, 36, k, rows}, true},
      {with(plain, A::gelu, true, false), false},
      {with(plain, A::relu, true, true), false},
      {{"f32", Kernel::fma, {}, f, 20, 24, 36, k, k}, false},
      {{"sums", mma, {}, h, 24, 16, 40, k, k, 1, 2, 3}, false},
      {{"odd", mma, {}, h, 21, 16, 45, odd, k}, false},
  };
}

}  // namespace

int runCublasLt(const std::string& expected) {
  int failures = 0, ran = 0;
  const bool automatic = cuda::cublaslt::use() == cuda::cublaslt::Use::automatic;
  for (const Wanted& wanted : products()) {
    Product product(wanted.c, 1);
    const auto fail = [&](const std::string& what) {
      ++failures;
      std::printf("case cublaslt %s: %s\n", wanted.c.name, what.c_str());
    };
    const auto expect = [&](const Run& run, int64_t calls, const char* when) {
      if (!run.status.ok()) return fail(std::string(when) + ": " + run.status.detail().value);
      if (!run.wrong.empty()) return fail(std::string(when) + ": " + run.wrong);
      if (calls >= 0 && run.calls != calls) {
        fail(std::string(when) + ": " + std::to_string(run.calls) + " calls, not " +
             std::to_string(calls));
      }
    };
    ++ran;
    if (expected == "hardware") {
      for (int i = 0; i < 3; ++i) expect(runOnce(product), -1, "on this GPU");
      continue;
    }
    const bool refused = expected == "failed" || expected == "missing";
    if (refused && wanted.expressible) {
      const Run run = runOnce(product);
      const std::string part = expected == "failed" ? "cublasLtMatmul answers 13" : "on";
      if (run.status.ok() || run.status.detail().value.find(part) == std::string::npos) {
        fail("no error names what is at fault");
      }
      continue;
    }
    if (refused && expected == "missing") continue;
    if (automatic && wanted.expressible && expected == "used") {
      expect(record(product), 0, "recorded before it was timed");
      expect(runOnce(product), -1, "timed");
    } else if (automatic) {
      expect(runOnce(product), -1, "at first");
    }
    const int64_t calls = expected == "used" && wanted.expressible ? 1 : 0;
    expect(runOnce(product), expected == "untouched" ? -1 : calls, "again");
    if (expected == "untouched" && callsSoFar() >= 0) fail("the library was loaded");
  }
  std::printf("%d of %d cases failed\n", failures, ran);
  return failures == 0 ? 0 : 1;
}

}  // namespace longspan::matmul_test
