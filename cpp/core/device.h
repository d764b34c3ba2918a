// A device: where memory lives and streams run. One object per physical device and process,
// created on first use and never destroyed, shared by every environment (main thread and workers).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "cpp/core/lane.h"
#include "cpp/core/status.h"

namespace longspan {

namespace cuda {
struct Gpu;
}

enum class DeviceType : uint8_t { cpu, cuda };

struct MemoryCounters {
  int64_t active = 0;       // bytes of live buffers and workspaces
  int64_t peak = 0;         // highest `active` since the last reset
  int64_t cached = 0;       // bytes kept for reuse
  int64_t limit = 0;        // 0: none
  int64_t liveBuffers = 0;  // buffers that hold memory
};

class Device {
 public:
  Device(DeviceType type, int index) : type_(type), index_(index) {}
  virtual ~Device() = default;

  DeviceType type() const { return type_; }
  int index() const { return index_; }
  std::string name() const {
    return type_ == DeviceType::cpu ? "cpu" : "cuda:" + std::to_string(index_);
  }

  // What kernels must know of a GPU; null on the CPU.
  virtual const cuda::Gpu* gpu() const { return nullptr; }

  // A new order of work on this device.
  virtual Status newLane(std::shared_ptr<Lane>* out) = 0;
  // Memory for data that comes from or goes to JavaScript, for Lane::upload.
  virtual Status hostBlock(size_t bytes, HostBlock* out) = 0;

  virtual MemoryCounters memory() const = 0;
  virtual void resetPeak() = 0;
  virtual void setLimit(int64_t bytes) = 0;
  virtual void emptyCache() = 0;

 private:
  const DeviceType type_;
  const int index_;
};

Device& cpuDevice();

// Null when it cannot be used; *why then says what is missing.
Device* cudaDevice(int index, std::string* why);

}  // namespace longspan
