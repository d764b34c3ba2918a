// matmul and linear on CUDA: a plan (matmul_plan.h) and the launches it asks for. Kernels, costs
// and predictions: matmul_wgmma.cu (16-bit floats on sm_90a), matmul_mma.cu (16-bit floats, tf32),
// matmul_fma.cu (f32); cuBLASLt where it is asked for (matmul_cublaslt.h).
#include <algorithm>

#include "cpp/ops/dense/linear.h"
#include "cuda/dense/matmul_cublaslt.h"

namespace longspan::cuda {
namespace matmul {
namespace {

cudaError_t launchProduct(const Plan& plan, const Problem& problem, DType type, Context& context) {
  switch (plan.kernel) {
    case Kernel::wgmma:
      return launchWgmma(problem, type, plan.tile, context.gpu.multiprocessors, context.stream);
    case Kernel::fma:
      return launchFma(problem, plan.tile, context.stream);
    default:
      return launchMma(problem, type, plan.tile, context.stream);
  }
}

}  // namespace

Status runPlan(const Plan& plan, const ops::Matmul& p, Context& context) {
  Problem problem = plan.problem;
  problem.a.data = addressOf(p.a);
  problem.b.data = addressOf(p.b);
  problem.y = p.y.data<std::byte>();
  if (p.preactivation.defined()) problem.preactivation = p.preactivation.data<std::byte>();
  if (p.bias.defined()) problem.bias = addressOf(p.bias), problem.biasStep = p.bias.stride[0];

  std::byte* scratch = context.workspace.data;
  const auto pack = [&](const Packing& packing, size_t bytes, const void*& data) {
    const Status status = launched(launchPack(packing, data, scratch, context.stream));
    data = scratch;
    scratch += bytes;
    return status;
  };
  if (plan.packsA) LONGSPAN_RETURN_IF_ERROR(pack(plan.packA, plan.packedA, problem.a.data));
  if (plan.packsB) LONGSPAN_RETURN_IF_ERROR(pack(plan.packB, plan.packedB, problem.b.data));
  problem.partial = reinterpret_cast<float*>(scratch);
  LONGSPAN_RETURN_IF_ERROR(launched(launchProduct(plan, problem, p.a.dtype, context)));
  if (problem.splits == 1) return {};
  return launched(launchSplitSum(problem, p.a.dtype, context.stream));
}

}  // namespace matmul

namespace {

bool empty(const ops::Matmul& p) { return p.y.numel() == 0; }

Status matmulOn(const ops::Matmul& p, Context& context) {
  if (empty(p)) return {};
  if (!matmul::fits(p)) {
    return Status(Code::unsupported, "a", describe(p.a),
                  "Multiply fewer matrices at once: a GPU takes 2^31 - 1 blocks");
  }
  const matmul::Plan plan = matmul::planOf(p, context.gpu);
  bool done = false;
  LONGSPAN_RETURN_IF_ERROR(matmul::runCublasLt(plan, p, context, &done));
  return done ? Status() : matmul::runPlan(plan, p, context);
}

size_t matmulWorkspace(const ops::Matmul& p, const Gpu& gpu) {
  if (empty(p) || !matmul::fits(p)) return 0;
  const matmul::Plan plan = matmul::planOf(p, gpu);
  return std::max(plan.workspace(), matmul::cublasLtWorkspace(plan, p, gpu));
}

Status linearOn(const ops::Linear& p, Context& context) { return matmulOn(p.product, context); }
size_t linearWorkspace(const ops::Linear& p, const Gpu& gpu) {
  return matmulWorkspace(p.product, gpu);
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Matmul, matmulOn, matmulWorkspace);
LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Linear, linearOn, linearWorkspace);

}  // namespace
}  // namespace longspan::cuda
