// The operator contract. An operator is a params struct
//
//   struct RmsNorm {
//     static constexpr const char* name = "rmsNorm";
//     TensorView x, weight, y;  double eps;
//     template <class V> void fields(V& v);   // the field list (field.h)
//     Status validate();                      // every shape rule; gives outputs their shape
//     size_t workspace(int threads) const;    // optional: bytes of scratch memory
//   };
//
// plus one kernel per device. The CPU's is registered by a single line in the operator's .cc,
//
//   LONGSPAN_OPERATOR(RmsNorm, rmsNorm);
//
// the GPU's by one in its .cu (cuda/context.h):
//
//   LONGSPAN_CUDA_OPERATOR(RmsNorm, rmsNorm);
//
// Kernels receive the params with every tensor's address bound. They never allocate device memory.
#pragma once

#include <memory>
#include <vector>

#include "cpp/core/recycler.h"
#include "cpp/core/status.h"
#include "cpp/core/thread_pool.h"
#include "cpp/core/workspace.h"
#include "cpp/ops/field.h"

namespace longspan {

class Lane;

namespace cpu {
// What a CPU kernel runs with.
struct Context {
  ThreadPool& pool;
  Workspace workspace;
};
}  // namespace cpu

namespace cuda {
struct Context;
struct Gpu;

// The GPU kernel of an operator, set by LONGSPAN_CUDA_OPERATOR.
template <class P>
struct KernelOf {
  static inline Status (*run)(const P&, Context&) = nullptr;
  static inline size_t (*workspace)(const P&, const Gpu&) = nullptr;  // null: none
  static inline bool f64 = false;                                     // takes f64 tensors
};
}  // namespace cuda

// One call's parameters behind a common face.
class Call {
 public:
  virtual ~Call() = default;
  virtual void fields(FieldVisitor& visitor) = 0;
  virtual Status validate() = 0;
  virtual size_t workspace(int threads) const = 0;
  virtual Status runOnCpu(cpu::Context& context) const = 0;

  virtual bool hasCudaKernel() const = 0;
  virtual bool cudaTakesF64() const = 0;
  virtual size_t cudaWorkspace(const cuda::Gpu& gpu) const = 0;
  virtual Status runOnCuda(cuda::Context& context) const = 0;
};

// Runs a call, its addresses bound, on a GPU's lane; defined by the CUDA backend.
Status runOnLane(const Call& call, Lane& lane, Workspace workspace);

class CallFrame;  // a packed call, see enqueue.h

struct Operator {
  const char* name;
  std::shared_ptr<Call> (*newCall)();

  std::vector<FieldDescription> describe() const;
  // Reads the frame, validates, allocates outputs, enqueues, writes the outputs' handles.
  Status call(CallFrame& frame) const;
};

// Sorted by name, complete once static initialisation is over.
const std::vector<Operator>& operators();

struct OperatorRegistrar {
  explicit OperatorRegistrar(Operator op);
};

template <class P, Status (*Kernel)(const P&, cpu::Context&)>
class CallOf final : public Call {
 public:
  // Not defaulted: allocate_shared would clear all of the memory first.
  CallOf() {}  // NOLINT(modernize-use-equals-default)
  static std::shared_ptr<Call> create() {
    return std::allocate_shared<CallOf>(RecyclingAllocator<CallOf>());
  }

  void fields(FieldVisitor& visitor) override { params_.fields(visitor); }
  Status validate() override { return params_.validate(); }
  size_t workspace(int threads) const override {
    if constexpr (requires { params_.workspace(threads); }) {
      return params_.workspace(threads);
    } else {
      return 0;
    }
  }
  Status runOnCpu(cpu::Context& context) const override { return Kernel(params_, context); }

  bool hasCudaKernel() const override { return cuda::KernelOf<P>::run != nullptr; }
  bool cudaTakesF64() const override { return cuda::KernelOf<P>::f64; }
  size_t cudaWorkspace(const cuda::Gpu& gpu) const override {
    return cuda::KernelOf<P>::workspace == nullptr ? 0 : cuda::KernelOf<P>::workspace(params_, gpu);
  }
  Status runOnCuda(cuda::Context& context) const override {
    return cuda::KernelOf<P>::run(params_, context);
  }

 private:
  P params_;
};

}  // namespace longspan

#define LONGSPAN_OPERATOR(Params, kernel)                                           \
  static const ::longspan::OperatorRegistrar registrar_##Params {                   \
    { Params::name, &::longspan::CallOf<Params, &::longspan::cpu::kernel>::create } \
  }
