// An in-order queue of tasks run by one thread. On the CPU the thread computes (with the pool's
// help); on CUDA it launches. Enqueuing never waits for arithmetic unless the queue is full.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "cpp/core/buffer.h"
#include "cpp/core/device.h"
#include "cpp/core/graph.h"

namespace longspan {

struct Task {
  const char* name = "";          // operator, for errors
  std::vector<BufferRef> reads;   // poison here is inherited by the writes
  std::vector<BufferRef> writes;  // materialised before the task runs
  std::vector<Event> after;       // events of other streams
  size_t workspaceBytes = 0;
  std::function<Status(Workspace)> run;
  std::function<void(const Status&)>
      done;  // called on the stream thread after run, whatever the outcome
  // What `run` works on, without references to buffers: left to the owner's thread to free, since
  // freeing what another thread allocated makes both wait for the allocator.
  std::shared_ptr<const void> parameters;

  void clear();
};

class Stream : public std::enable_shared_from_this<Stream> {
 public:
  // Tasks a stream holds before submit blocks.
  static constexpr size_t kCapacity = 4096;

  static std::shared_ptr<Stream> create(Device& device, std::shared_ptr<Lane> lane);

  Device& device() const { return device_; }
  Lane& lane() const { return *lane_; }

  // An empty task for the owner to fill, which the next submit() hands over. Blocks only while the
  // queue is full.
  Task& prepare();
  // Returns the task's ticket.
  uint64_t submit();
  uint64_t submit(Task task) {
    prepare() = std::move(task);
    return submit();
  }
  // The task has run and its references are gone; on a GPU its work may be under way.
  bool ran(uint64_t ticket) const { return completed_.load(std::memory_order_acquire) >= ticket; }
  void waitUntilRan(uint64_t ticket);
  // Its work has ended.
  bool ended(uint64_t ticket) const { return lane_->immediate() && ran(ticket); }
  Status waitUntilEnded(uint64_t ticket);
  uint64_t lastTicket() const { return submitted_.load(std::memory_order_relaxed); }
  size_t pending() const { return static_cast<size_t>(lastTicket() - completed_.load()); }

  // What is submitted between these is recorded. The end waits until all of it has been, and
  // answers with the first failure.
  void beginCapture(std::shared_ptr<Graph> graph);
  Status endCapture(std::shared_ptr<Graph>* out);
  bool capturing() const { return capture_ != nullptr; }
  // Runs a recorded graph again, in this stream's order.
  uint64_t replay(const std::shared_ptr<Graph>& graph, Task task);

  // No more tasks will come: the thread ends once the queue is empty.
  void finish();
  // The owner is gone: tasks not yet started are dropped, the thread ends after the current one.
  void orphan();

 private:
  Stream(Device& device, std::shared_ptr<Lane> lane) : device_(device), lane_(std::move(lane)) {}
  void loop();
  Task* next();
  Status execute(Task& task);
  void noteUses(const Task& task, const MemorySource* memory);
  void record(Task& task, const Status& status);

  Device& device_;
  const std::shared_ptr<Lane> lane_;
  std::shared_ptr<Graph> capture_;    // the owner's thread
  std::shared_ptr<Graph> recording_;  // the stream's thread
  // One producer (the owner), one consumer (the thread): tickets index a ring, so neither locks
  // unless one of them sleeps. A place, once made, is used again and again.
  std::vector<std::unique_ptr<Task>> ring_;
  uint64_t freed_ = 0;  // the owner has freed the parameters of the tasks before
  alignas(64) std::atomic<uint64_t> submitted_{0};
  alignas(64) std::atomic<uint64_t> completed_{0};
  alignas(64) std::atomic<bool> finishing_{false}, orphaned_{false};
  // Sleepers, each announced before it looks a last time.
  std::atomic<bool> consumerSleeps_{false}, producerSleeps_{false};
  std::atomic<int> waiters_{0};
  std::mutex mutex_;
  std::condition_variable notEmpty_, notFull_, progressed_;
};

}  // namespace longspan
