// The packed call as operators see it, and the order of tasks that share a buffer.
#pragma once

#include <memory>
#include <vector>

#include "cpp/core/stream.h"
#include "cpp/ops/field.h"

namespace longspan {

// How a packed call is read and its outputs are handed back; implemented by cpp/napi.
class CallFrame {
 public:
  virtual ~CallFrame() = default;

  // Reading, in field order. A stale handle or an absent required tensor is kept as the first
  // error.
  virtual void readTensor(const char* name, TensorView& out, bool required, bool writes) = 0;
  virtual void readTensors(const char* name, TensorList& out, bool writes, bool mayBeEmpty) = 0;
  virtual double readNumber() = 0;
  virtual void readIntegers(std::vector<int64_t>& out) = 0;
  virtual const Status& status() const = 0;

  virtual const std::shared_ptr<Stream>& stream() const = 0;
  // What errors that show after the call name: the function that was called, where several share an
  // operator. Null: the operator. Lives as long as the process.
  virtual const char* called() const = 0;

  // Writing, in field order: an output, or its absence without a buffer.
  virtual void beginOutputs() = 0;
  virtual void writeTensor(const TensorView& view, BufferRef buffer) = 0;
  virtual void writeCount(size_t n) = 0;
};

// Orders the task after the uses of `buffer` in other streams.
void orderAfterUses(Task& task, const Buffer& buffer, const std::shared_ptr<Stream>& stream,
                    bool writes);
// Records the use by the task that got `ticket`.
void recordUse(Buffer& buffer, const std::shared_ptr<Stream>& stream, uint64_t ticket, bool writes);

}  // namespace longspan
