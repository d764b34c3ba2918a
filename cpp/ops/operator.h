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
// plus one kernel per device, registered by a single line in the operator's .cc:
//
//   LONGSPAN_OPERATOR(RmsNorm, rmsNorm);
//
// Kernels receive the params with every tensor's address bound. They never allocate device memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cpp/core/status.h"
#include "cpp/core/stream.h"
#include "cpp/core/thread_pool.h"
#include "cpp/ops/field.h"

namespace longspan {

namespace cpu {
// What a CPU kernel runs with.
struct Context {
  ThreadPool& pool;
  Workspace workspace;
};
}  // namespace cpu

// How a packed call is read and its outputs are handed back; implemented by cpp/napi.
class CallFrame;

class Operator {
 public:
  virtual ~Operator() = default;
  virtual const char* name() const = 0;
  virtual std::vector<FieldDescription> describe() const = 0;
  // Reads the frame, validates, allocates outputs, enqueues, writes the outputs' handles.
  virtual Status call(CallFrame& frame) const = 0;
};

// Sorted by name, complete once static initialisation is over.
const std::vector<const Operator*>& operators();
void addOperator(std::unique_ptr<Operator> op);

template <class P>
using CpuKernel = Status (*)(const P&, cpu::Context&);

template <class P>
size_t workspaceOf(const P& params, int threads) {
  if constexpr (requires { params.workspace(threads); }) {
    return params.workspace(threads);
  } else {
    return 0;
  }
}

}  // namespace longspan

#include "cpp/ops/enqueue.h"
