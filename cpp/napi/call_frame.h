// The packed call as the operator contract sees it.
//
// Layout of the call buffer (doubles): [stream id, name id, field...]. The name is what errors that
// show late call the function, 0 for the operator's. A tensor is its handle or -1, a list is its
// length and then its elements, a scalar is itself. On return the outputs stand from index
// 0: a tensor is [handle, dtype, rank, dims...] or [-1], a list is its length and then its tensors.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cpp/napi/environment.h"
#include "cpp/ops/enqueue.h"

namespace longspan::napi {

// The number of a name for `PackedCall::called`, the same for every environment of the process.
size_t nameId(const std::string& name);

class PackedCall final : public CallFrame {
 public:
  explicit PackedCall(Environment& environment)
      : environment_(environment), cursor_(environment.call + 2) {
    const auto id = static_cast<size_t>(environment.call[0]);
    if (id < environment.streams.size()) stream_ = &environment.streams[id];
    if (!*stream_) {
      status_ = Status(Code::device, "stream", std::to_string(id), "Use a stream that is open");
    }
  }

  void readTensor(const char* name, TensorView& out, bool required, bool writes) override;
  void readTensors(const char* name, TensorList& out, bool writes, bool mayBeEmpty) override;
  double readNumber() override { return *cursor_++; }
  void readIntegers(std::vector<int64_t>& out) override;
  const Status& status() const override { return status_; }
  const std::shared_ptr<Stream>& stream() const override { return *stream_; }
  const char* called() const override;
  void beginOutputs() override { cursor_ = environment_.call; }
  void writeTensor(const TensorView& view, BufferRef buffer) override;
  void writeCount(size_t n) override { *cursor_++ = static_cast<double>(n); }

 private:
  Environment& environment_;
  double* cursor_;
  static inline const std::shared_ptr<Stream> kNoStream;
  const std::shared_ptr<Stream>* stream_ = &kNoStream;
  Status status_;
};

}  // namespace longspan::napi
