// The thread that waits for a GPU so that nobody else has to: not the JavaScript thread, not
// libuv's pool, not the streams' own threads, which go on launching.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

#include "cpp/core/status.h"
#include "cuda/runtime.h"

namespace longspan::cuda {

class GpuDevice;

class Waiter {
 public:
  explicit Waiter(GpuDevice& device) : device_(device) {}

  // Calls `done` on the waiter's thread once what `stream` has been given so far has ended, with
  // its outcome. Calls of one stream come in order.
  void after(cudaStream_t stream, std::function<void(const Status&)> done);

 private:
  struct Item {
    cudaEvent_t event;
    std::function<void(const Status&)> done;
  };
  void loop();

  GpuDevice& device_;
  std::mutex mutex_;
  std::condition_variable notEmpty_;
  std::deque<Item> items_;
  bool started_ = false;
};

}  // namespace longspan::cuda
