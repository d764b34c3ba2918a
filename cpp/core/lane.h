// The device's side of a stream: where memory comes from, how bytes move, when work has ended. On
// the CPU a task that has run has ended; on a GPU it has only been launched.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "cpp/core/status.h"

namespace longspan {

class Lane;

// Where a buffer's memory comes from and goes back to.
class MemorySource {
 public:
  virtual ~MemorySource() = default;
  // At least 64-byte aligned; never null on success. Frees the caches and retries once before it
  // answers outOfMemory with the sizes.
  virtual Status allocate(size_t bytes, void** out) = 0;
  // Accepts what allocate returned, from any thread. Never throws, never waits for the device.
  virtual void free(void* data, size_t bytes) noexcept = 0;
  // The same where lanes of other orders may still be at work on it.
  virtual void freeAfter(void* data, size_t bytes,
                         const std::vector<std::shared_ptr<Lane>>& users) noexcept {
    for (const auto& user : users) synchronizeQuietly(*user);
    free(data, bytes);
  }

 protected:
  static void synchronizeQuietly(Lane& lane) noexcept;
};

// Host memory that a device can copy from and to without the driver's own staging.
using HostBlock = std::shared_ptr<std::byte>;

// A lane's recording of work, ready to be launched; defined by the backend.
class LaneGraph {
 public:
  virtual ~LaneGraph() = default;
};

class Lane : public std::enable_shared_from_this<Lane> {
 public:
  virtual ~Lane() = default;

  // True where a task that has run has also ended.
  virtual bool immediate() const { return true; }
  // Called by the stream's thread before its first task.
  virtual void attach() {}

  // Memory in this lane's order: what is freed here may be given out again to later tasks at once.
  virtual std::shared_ptr<MemorySource> memory() = 0;

  // Later work of this lane begins after the present work of `other`.
  virtual Status waitFor(Lane& other) { return other.immediate() ? Status() : other.synchronize(); }
  // Blocks until all work so far has ended; its failure, if it failed.
  virtual Status synchronize() { return {}; }
  // Calls `done` once all work so far has ended, on whatever thread learns of it.
  virtual void whenEnded(std::function<void(const Status&)> done) { done(Status()); }

  // Between these, work is recorded instead of done, and memory() is the recording's own. Only
  // lanes that are not immediate are asked.
  virtual Status beginCapture() { return {}; }
  virtual Status endCapture(std::shared_ptr<LaneGraph>*) { return {}; }
  virtual Status launch(LaneGraph&) { return {}; }

  // Copies in this lane's order. `from` is free for reuse on return.
  virtual Status upload(void* to, const void* from, size_t bytes) = 0;
  // The same from a block of Device::hostBlock, which is kept until the copy has ended.
  virtual Status upload(void* to, const HostBlock& from, size_t bytes) = 0;
  // `to` is written on return.
  virtual Status download(void* to, const void* from, size_t bytes) = 0;
  // Hands the bytes, in host memory and for the time of the call, to `done`.
  virtual void read(const void* from, size_t bytes,
                    std::function<void(const Status&, const std::byte*)> done) = 0;
};

inline void MemorySource::synchronizeQuietly(Lane& lane) noexcept { (void)lane.synchronize(); }

}  // namespace longspan
