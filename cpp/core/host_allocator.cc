#include "cpp/core/host_allocator.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

namespace longspan {
namespace {

constexpr size_t kHuge = size_t{2} << 20;
constexpr int64_t kMaxCached = int64_t{1} << 30;

// Small: powers of two from 64. Large: multiples of 1/8 of the power below, so that at most an
// eighth is lost and sequences of slightly different lengths share blocks.
size_t roundUp(size_t bytes) {
  if (bytes <= 64) return 64;
  size_t power = 64;
  while (power * 2 <= bytes) power *= 2;
  const size_t step = power >= (size_t{1} << 16) ? power / 8 : power;
  return (bytes + step - 1) / step * step;
}

void* systemAllocate(size_t rounded) {
  const size_t alignment = rounded >= kHuge ? kHuge : 64;
  const size_t padded = (rounded + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, padded);
#ifdef MADV_HUGEPAGE
  if (data != nullptr && alignment == kHuge) madvise(data, padded, MADV_HUGEPAGE);
#endif
  return data;
}

class HostLane final : public Lane {
 public:
  std::shared_ptr<MemorySource> memory() override { return hostDevice().source(); }
  Status upload(void* to, const void* from, size_t bytes) override {
    return download(to, from, bytes);
  }
  Status upload(void* to, const HostBlock& from, size_t bytes) override {
    return download(to, from.get(), bytes);
  }
  Status download(void* to, const void* from, size_t bytes) override {
    // An empty tensor has no address, which memcpy must not be given.
    if (bytes > 0) std::memcpy(to, from, bytes);
    return {};
  }
  void read(const void* from, size_t,
            std::function<void(const Status&, const std::byte*)> done) override {
    done(Status(), static_cast<const std::byte*>(from));
  }
};

}  // namespace

Status HostDevice::newLane(std::shared_ptr<Lane>* out) {
  *out = std::make_shared<HostLane>();
  return {};
}

Status HostDevice::hostBlock(size_t bytes, HostBlock* out) {
  *out = HostBlock(new (std::nothrow) std::byte[bytes], std::default_delete<std::byte[]>());
  if (*out) return {};
  return Status(Code::outOfMemory, "memory", std::to_string(bytes) + " bytes to stage the data",
                "Pass it in smaller parts");
}

void* HostDevice::takeCached(size_t rounded) {
  const auto found = cache_.find(rounded);
  if (found == cache_.end() || found->second.empty()) return nullptr;
  void* data = found->second.back();
  found->second.pop_back();
  counters_.cached -= static_cast<int64_t>(rounded);
  return data;
}

// Largest blocks first: they are the least likely to be asked for again in the same size.
void HostDevice::trim(int64_t keep) {
  for (auto it = cache_.rbegin(); it != cache_.rend() && counters_.cached > keep; ++it) {
    while (!it->second.empty() && counters_.cached > keep) {
      std::free(it->second.back());
      it->second.pop_back();
      counters_.cached -= static_cast<int64_t>(it->first);
    }
  }
}

Status HostDevice::allocate(size_t bytes, void** out) {
  // Beyond this, rounding itself could overflow; no machine has it.
  constexpr size_t kAbsurd = size_t{1} << 56;
  const size_t rounded = bytes < kAbsurd ? roundUp(bytes) : bytes;
  std::lock_guard<std::mutex> lock(mutex_);
  const auto size = static_cast<int64_t>(rounded);
  void* data = takeCached(rounded);
  if (data == nullptr && bytes < kAbsurd) {
    const auto over = [&] {
      return counters_.limit > 0 && counters_.active + counters_.cached + size > counters_.limit;
    };
    if (over()) trim(0);
    if (!over()) {
      data = systemAllocate(rounded);
      if (data == nullptr) {
        trim(0);
        data = systemAllocate(rounded);
      }
    }
  }
  if (data == nullptr) {
    return Status(Code::outOfMemory, "memory",
                  std::to_string(bytes) + " bytes with " + std::to_string(counters_.active) +
                      " in use and a limit of " +
                      (counters_.limit > 0 ? std::to_string(counters_.limit) : std::string("none")),
                  "Use smaller batches or sequences, dispose tensors that are no longer needed, or "
                  "raise the limit with device.setMemoryLimit");
  }
  counters_.active += size;
  counters_.liveBuffers += 1;
  if (counters_.active > counters_.peak) counters_.peak = counters_.active;
  *out = data;
  return {};
}

void HostDevice::free(void* data, size_t bytes) noexcept {
  if (data == nullptr) return;
  const size_t rounded = roundUp(bytes);
  const auto size = static_cast<int64_t>(rounded);
  std::lock_guard<std::mutex> lock(mutex_);
  counters_.active -= size;
  counters_.liveBuffers -= 1;
  const int64_t room =
      counters_.limit > 0 && counters_.limit < kMaxCached ? counters_.limit : kMaxCached;
  if (counters_.cached + size > room) {
    std::free(data);
    return;
  }
  try {
    cache_[rounded].push_back(data);
    counters_.cached += size;
  } catch (...) {
    std::free(data);
  }
}

MemoryCounters HostDevice::memory() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return counters_;
}

void HostDevice::resetPeak() {
  std::lock_guard<std::mutex> lock(mutex_);
  counters_.peak = counters_.active;
}

void HostDevice::setLimit(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  counters_.limit = bytes;
  if (bytes > 0 && counters_.active + counters_.cached > bytes) trim(0);
}

void HostDevice::emptyCache() {
  std::lock_guard<std::mutex> lock(mutex_);
  trim(0);
}

HostDevice& hostDevice() {
  static auto* device = new HostDevice();
  return *device;
}

Device& cpuDevice() { return hostDevice(); }

}  // namespace longspan
