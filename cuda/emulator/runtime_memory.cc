// Allocation with pool counters, copies and fills. Memory that a kernel reads before anyone wrote
// it is reported, so copies carry over which bytes are initialised.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "cuda/emulator/driver.h"

using namespace longspan::emulator;

namespace {

constexpr size_t kRounding = 512, kPoolStep = size_t{2} << 20;

size_t rounded(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }

uint64_t usedOn(const EmulatedDevice& device) { return device.pool.reserved + device.direct; }

std::string bytesText(size_t n) { return std::to_string(n) + " bytes"; }

cudaError_t outOfMemory(size_t bytes, const EmulatedDevice& device) {
  return fail(cudaErrorMemoryAllocation, bytesText(bytes) + " asked for, " +
                                             bytesText(usedOn(device)) + " of " +
                                             bytesText(environment().memory) + " in use");
}

// The buffer of device memory at p, checked to hold n bytes; *error is set when it does not.
Allocation* deviceRange(const void* p, size_t n, cudaError_t* error) {
  GlobalMemory& memory = machine().memory;
  *error = cudaSuccess;
  if (!memory.covers(p)) return nullptr;
  Allocation* a = memory.find(p);
  if (a == nullptr || !a->contains(p, n)) {
    *error = fail(cudaErrorInvalidValue, "a range of " + bytesText(n) +
                                             " is not within a device buffer" +
                                             (a == nullptr ? "" : " of " + bytesText(a->bytes)));
  } else if (!a->live) {
    *error = fail(cudaErrorInvalidValue, "use after free of a buffer of " + bytesText(a->bytes));
  }
  return a;
}

uint8_t* initialisedAt(Allocation* a, const void* p) {
  if (a == nullptr || !a->initialised) return nullptr;
  return &a->initialised[static_cast<size_t>(static_cast<const uint8_t*>(p) - a->base)];
}

cudaError_t copyNow(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  cudaError_t error;
  Allocation* target = deviceRange(to, bytes, &error);
  if (error != cudaSuccess) return error;
  Allocation* source = deviceRange(from, bytes, &error);
  if (error != cudaSuccess) return error;
  const bool toDevice = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool fromDevice = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault &&
      (toDevice != (target != nullptr) || fromDevice != (source != nullptr))) {
    return fail(cudaErrorInvalidMemcpyDirection);
  }
  std::memmove(to, from, bytes);
  uint8_t* targetBytes = initialisedAt(target, to);
  if (targetBytes == nullptr) return cudaSuccess;
  if (const uint8_t* sourceBytes = initialisedAt(source, from)) {
    std::memmove(targetBytes, sourceBytes, bytes);
  } else {
    std::memset(targetBytes, 1, bytes);
  }
  return cudaSuccess;
}

cudaError_t setNow(void* p, int value, size_t bytes) {
  if (bytes == 0) return cudaSuccess;
  cudaError_t error;
  Allocation* a = deviceRange(p, bytes, &error);
  if (error != cudaSuccess) return error;
  if (a == nullptr) return fail(cudaErrorInvalidValue, "not device memory");
  std::memset(p, value, bytes);
  if (uint8_t* initialised = initialisedAt(a, p)) std::memset(initialised, 1, bytes);
  return cudaSuccess;
}

cudaError_t takeFromPool(EmulatedDevice& device, size_t bytes) {
  Pool& pool = device.pool;
  const uint64_t used = pool.used + rounded(bytes, kRounding);
  if (used > pool.reserved) {
    const uint64_t reserved = rounded(used, kPoolStep);
    // The last step of a nearly full device may be a small one.
    if (std::min(reserved, std::max(used, uint64_t{0})) + device.direct > environment().memory) {
      return outOfMemory(bytes, device);
    }
    pool.reserved = std::min<uint64_t>(reserved, environment().memory - device.direct);
  }
  pool.used = used;
  pool.usedHigh = std::max(pool.usedHigh, pool.used);
  pool.reservedHigh = std::max(pool.reservedHigh, pool.reserved);
  return cudaSuccess;
}

// Graphs own the addresses of what they allocate: each replay renews or frees them.
cudaError_t captureAllocation(CUstream_st& stream, void** out, size_t bytes) {
  Allocation* a = machine().memory.allocate(std::max<size_t>(bytes, 1), stream.device);
  if (a == nullptr) return outOfMemory(bytes, driver().devices[stream.device]);
  a->ofGraph = true;
  machine().memory.free(a);  // not alive before the first replay
  stream.capture->graph->allocations.emplace_back(a, [](Allocation* dead) {
    Call call;
    if (!dead->live) machine().memory.renew(*dead);
    dead->ofGraph = false;
    machine().memory.free(dead);
  });
  *out = a->base;
  return submit(stream, Node::Kind::allocate, [a] {
    machine().memory.renew(*a);
    return cudaSuccess;
  });
}

cudaError_t freeNow(void* p, bool fromPool) {
  cudaError_t error;
  Allocation* a = deviceRange(p, 0, &error);
  if (error != cudaSuccess) return error;
  if (a == nullptr || a->base != p) return fail(cudaErrorInvalidValue, "not the start of a buffer");
  EmulatedDevice& device = driver().devices[a->device];
  if (!a->ofGraph) {
    if (a->pooled != fromPool && !fromPool) trimPools();
    if (a->pooled) {
      device.pool.used -= rounded(a->bytes, kRounding);
    } else {
      device.direct -= a->bytes;
    }
  }
  machine().memory.free(a);
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaMalloc(void** out, size_t bytes) {
  Call call;
  *out = nullptr;
  if (const cudaError_t error = refuseDuringCapture(); error != cudaSuccess) return error;
  if (const cudaError_t error = checkDevice(currentDevice()); error != cudaSuccess) return error;
  if (bytes == 0) return cudaSuccess;
  EmulatedDevice& device = driver().devices[currentDevice()];
  if (usedOn(device) + bytes > environment().memory) trimPools();
  if (usedOn(device) + bytes > environment().memory) return outOfMemory(bytes, device);
  Allocation* a = machine().memory.allocate(bytes, currentDevice());
  if (a == nullptr) return outOfMemory(bytes, device);
  device.direct += bytes;
  *out = a->base;
  return cudaSuccess;
}

cudaError_t cudaFree(void* p) {
  Call call;
  if (p == nullptr) return cudaSuccess;
  if (const cudaError_t error = refuseDuringCapture(); error != cudaSuccess) return error;
  return freeNow(p, false);
}

cudaError_t cudaMallocAsync(void** out, size_t bytes, cudaStream_t stream) {
  Call call;
  *out = nullptr;
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = checkDevice(s->device); error != cudaSuccess) return error;
  if (s->capture) return captureAllocation(*s, out, bytes);
  if (bytes == 0) return cudaSuccess;
  EmulatedDevice& device = driver().devices[s->device];
  if (const cudaError_t error = takeFromPool(device, bytes); error != cudaSuccess) return error;
  Allocation* a = machine().memory.allocate(bytes, s->device);
  if (a == nullptr) return outOfMemory(bytes, device);
  a->pooled = true;
  *out = a->base;
  return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void** out, size_t bytes, cudaMemPool_t, cudaStream_t stream) {
  return cudaMallocAsync(out, bytes, stream);
}

cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  Call call;
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  if (p == nullptr) return cudaSuccess;
  if (!s->capture) return freeNow(p, true);
  Allocation* a = machine().memory.find(p);
  if (a == nullptr || !a->ofGraph) {
    return fail(cudaErrorInvalidValue, "a graph frees only what it has allocated");
  }
  return submit(*s, Node::Kind::free, [p] { return freeNow(p, true); });
}

cudaError_t cudaHostAlloc(void** out, size_t bytes, unsigned) {
  Call call;
  if (environment().devices == 0) return fail(cudaErrorNoDevice);
  *out = std::aligned_alloc(4096, rounded(std::max<size_t>(bytes, 1), 4096));
  if (*out == nullptr) return fail(cudaErrorMemoryAllocation);
  driver().hostMemory.insert(*out);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* p) {
  Call call;
  if (p == nullptr) return cudaSuccess;
  if (driver().hostMemory.erase(p) == 0) return fail(cudaErrorInvalidValue);
  std::free(p);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  Call call;
  if (const cudaError_t error = refuseDuringCapture(); error != cudaSuccess) return error;
  if (const cudaError_t error = checkDevice(currentDevice()); error != cudaSuccess) return error;
  return copyNow(to, from, bytes, kind);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Call call;
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  return submit(*s, Node::Kind::copy, [=] { return copyNow(to, from, bytes, kind); });
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t toPitch, const void* from, size_t fromPitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream) {
  Call call;
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  if (width > toPitch || width > fromPitch) return fail(cudaErrorInvalidValue);
  return submit(*s, Node::Kind::copy, [=] {
    for (size_t row = 0; row < height; ++row) {
      const cudaError_t error =
          copyNow(static_cast<char*>(to) + row * toPitch,
                  static_cast<const char*>(from) + row * fromPitch, width, kind);
      if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
  });
}

cudaError_t cudaMemset(void* p, int value, size_t bytes) {
  return cudaMemsetAsync(p, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
  Call call;
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  return submit(*s, Node::Kind::set, [=] { return setNow(p, value, bytes); });
}

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  Call call;
  if (const cudaError_t error = checkDevice(currentDevice()); error != cudaSuccess) return error;
  *total = environment().memory;
  const uint64_t used = usedOn(driver().devices[currentDevice()]);
  *available = used > *total ? 0 : *total - used;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  Call call;
  if (const cudaError_t error = checkDevice(device); error != cudaSuccess) return error;
  *pool = &driver().devices[device].pool;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) {
  return cudaDeviceGetDefaultMemPool(pool, device);
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  Call call;
  const uint64_t bytes =
      attribute >= cudaMemPoolAttrReleaseThreshold ? *static_cast<const uint64_t*>(value) : 0;
  switch (attribute) {
    case cudaMemPoolAttrReleaseThreshold:
      pool->threshold = bytes;
      return cudaSuccess;
    case cudaMemPoolAttrReservedMemHigh:
    case cudaMemPoolAttrUsedMemHigh:
      if (bytes != 0) return fail(cudaErrorInvalidValue);
      if (attribute == cudaMemPoolAttrUsedMemHigh) {
        pool->usedHigh = pool->used;
      } else {
        pool->reservedHigh = pool->reserved;
      }
      return cudaSuccess;
    case cudaMemPoolReuseFollowEventDependencies:
    case cudaMemPoolReuseAllowOpportunistic:
    case cudaMemPoolReuseAllowInternalDependencies:
      return cudaSuccess;
    default:
      return fail(cudaErrorInvalidValue);
  }
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  Call call;
  auto* out = static_cast<uint64_t*>(value);
  switch (attribute) {
    case cudaMemPoolAttrReleaseThreshold:
      *out = pool->threshold;
      return cudaSuccess;
    case cudaMemPoolAttrReservedMemCurrent:
      *out = pool->reserved;
      return cudaSuccess;
    case cudaMemPoolAttrReservedMemHigh:
      *out = pool->reservedHigh;
      return cudaSuccess;
    case cudaMemPoolAttrUsedMemCurrent:
      *out = pool->used;
      return cudaSuccess;
    case cudaMemPoolAttrUsedMemHigh:
      *out = pool->usedHigh;
      return cudaSuccess;
    default:
      *static_cast<int*>(value) = 1;
      return cudaSuccess;
  }
}

cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t bytesToKeep) {
  Call call;
  pool->reserved = std::max<uint64_t>(pool->used, std::min<uint64_t>(pool->reserved, bytesToKeep));
  return cudaSuccess;
}
