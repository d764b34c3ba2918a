// Device memory shared by the tensors that view it and by the tasks that use it.
//
// Memory is taken when the first task that writes the buffer runs, and returned when the last
// reference (handle or pending task) goes. A program that enqueues far ahead therefore holds
// descriptors, not memory, and memory is never reused before every stream that used it is done.
#pragma once

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "cpp/core/device.h"
#include "cpp/core/status.h"

namespace longspan {

class Stream;

// A point in a stream's order.
struct Event {
  std::shared_ptr<Stream> stream;
  uint64_t ticket = 0;
};

class Buffer : public std::enable_shared_from_this<Buffer> {
 public:
  Buffer(Device& device, size_t bytes) : device_(device), bytes_(bytes) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ == nullptr) return;
    if (users_.empty()) {
      source_->free(data_, bytes_);
    } else {
      source_->freeAfter(data_, bytes_, users_);
    }
  }

  Device& device() const { return device_; }
  size_t bytes() const { return bytes_; }

  // Stream thread, or the creating thread before the buffer is shared.
  Status materialise(std::shared_ptr<MemorySource> source) {
    if (data_ != nullptr) return {};
    source_ = std::move(source);
    return source_->allocate(bytes_, &data_);
  }
  // Where its memory came from; null before.
  MemorySource* source() const { return source_.get(); }
  // Stream thread: a lane other than the one its memory came from has work on it.
  void addUser(const std::shared_ptr<Lane>& lane);
  std::byte* data() const { return static_cast<std::byte*>(data_); }

  // The failure of the operator that should have written this buffer. Written and read by stream
  // threads in the order their events establish, and by the owner after such an event.
  const Status& poison() const { return poison_; }
  void setPoison(Status status) { poison_ = std::move(status); }

  // Last uses, known to the environment that owns the buffer; only its thread touches these.
  Event lastWrite;
  std::vector<Event> lastReads;

 private:
  Device& device_;
  const size_t bytes_;
  void* data_ = nullptr;
  std::shared_ptr<MemorySource> source_;
  std::vector<std::shared_ptr<Lane>> users_;
  Status poison_;
};

using BufferRef = std::shared_ptr<Buffer>;

}  // namespace longspan
