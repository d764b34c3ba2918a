// A GPU as a device: found once, its memory counted, its host memory pinned, one thread that waits.
#pragma once

#include <memory>
#include <mutex>

#include "cpp/core/device.h"
#include "cuda/context.h"
#include "cuda/core/pinned_memory.h"
#include "cuda/core/waiter.h"

namespace longspan::cuda {

class GpuDevice final : public Device {
 public:
  explicit GpuDevice(const Gpu& gpu) : Device(DeviceType::cuda, gpu.index), gpu_(gpu) {}

  const Gpu* gpu() const override { return &gpu_; }
  Status newLane(std::shared_ptr<Lane>* out) override;
  Status hostBlock(size_t bytes, HostBlock* out) override { return pinned_.take(bytes, out); }

  MemoryCounters memory() const override;
  void resetPeak() override;
  void setLimit(int64_t bytes) override;
  void emptyCache() override;

  // Stream-ordered memory of `stream`. Counted when asked for, and again when given back, in the
  // order of the calls: what the stream has not reached yet counts as done.
  Status allocate(size_t bytes, cudaStream_t stream, void** out);
  void free(void* data, size_t bytes, cudaStream_t stream) noexcept;

  // Memory at an address that does not depend on any stream's order. Giving it back waits for the
  // GPU.
  Status allocateFixed(size_t bytes, void** out);
  void freeFixed(void* data, size_t bytes) noexcept;

  // Makes this GPU the calling thread's.
  void select() const;
  Waiter& waiter() { return waiter_; }

 private:
  // Takes memory by `take`, within the limit; once more with empty caches when that fails.
  template <class Take, class Settle>
  Status counted(size_t bytes, void** out, Take take, Settle settle);
  void uncount(size_t bytes) noexcept;

  const Gpu gpu_;
  PinnedMemory pinned_;
  Waiter waiter_{*this};
  mutable std::mutex mutex_;
  MemoryCounters counters_;
};

}  // namespace longspan::cuda
