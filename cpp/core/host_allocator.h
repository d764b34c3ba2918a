// The CPU device's memory: size-classed free lists over aligned blocks, with counters and a limit.
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "cpp/core/device.h"

namespace longspan {

class HostDevice final : public Device, public MemorySource {
 public:
  HostDevice() : Device(DeviceType::cpu, 0) {}

  Status newLane(std::shared_ptr<Lane>* out) override;
  Status hostBlock(size_t bytes, HostBlock* out) override;
  // Nothing to count: the device is never destroyed.
  std::shared_ptr<MemorySource> source() { return {std::shared_ptr<void>(), this}; }

  Status allocate(size_t bytes, void** out) override;
  void free(void* data, size_t bytes) noexcept override;
  MemoryCounters memory() const override;
  void resetPeak() override;
  void setLimit(int64_t bytes) override;
  void emptyCache() override;

 private:
  void* takeCached(size_t rounded);
  void trim(int64_t keep);

  mutable std::mutex mutex_;
  MemoryCounters counters_;
  std::map<size_t, std::vector<void*>> cache_;  // by rounded size
};

HostDevice& hostDevice();

}  // namespace longspan
