#include "cuda/core/waiter.h"

#include <thread>
#include <utility>

#include "cuda/core/gpu_device.h"

namespace longspan::cuda {

void Waiter::after(cudaStream_t stream, std::function<void(const Status&)> done) {
  cudaEvent_t event = nullptr;
  // Blocking: the thread sleeps instead of spinning on the second of two cores.
  cudaError_t error =
      cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync);
  if (error == cudaSuccess) error = cudaEventRecord(event, stream);
  if (error != cudaSuccess) {
    if (event != nullptr) cudaEventDestroy(event);
    return done(statusOf(error));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  items_.push_back({event, std::move(done)});
  if (!started_) {
    started_ = true;
    std::thread([this] { loop(); }).detach();  // devices are never destroyed
  }
  notEmpty_.notify_one();
}

void Waiter::loop() {
  device_.select();
  for (;;) {
    Item item;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      notEmpty_.wait(lock, [&] { return !items_.empty(); });
      item = std::move(items_.front());
      items_.pop_front();
    }
    const cudaError_t error = cudaEventSynchronize(item.event);
    cudaEventDestroy(item.event);
    item.done(statusOf(error));
  }
}

}  // namespace longspan::cuda
