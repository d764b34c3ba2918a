#include "cuda/core/gpu_device.h"

#include <string>
#include <vector>

#include "cuda/core/architectures.h"
#include "cuda/core/gpu_lane.h"

namespace longspan {
namespace cuda {

Status statusOf(cudaError_t error) {
  if (error == cudaSuccess) return {};
  const std::string text = std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) +
                           ", " + std::to_string(static_cast<int>(error)) + ")";
  (void)cudaGetLastError();  // a failure that the device survives must not fail the next call too
  // One that it does not survive cannot be cleared: every later call of the process meets it.
  if (cudaPeekAtLastError() != cudaSuccess) {
    return Status(Code::lost, "", text,
                  "Restart the process from the last checkpoint; the CPU can still be used");
  }
  if (error == cudaErrorMemoryAllocation) {
    return Status(Code::outOfMemory, "memory", text,
                  "Use smaller batches or sequences, or dispose tensors that are no longer needed");
  }
  return Status(Code::failed, "", text,
                "What does not depend on this result goes on; compute it again, or report a bug");
}

void GpuDevice::select() const { cudaSetDevice(gpu_.index); }

Status GpuDevice::newLane(std::shared_ptr<Lane>* out) {
  select();
  cudaStream_t stream = nullptr;
  LONGSPAN_RETURN_IF_ERROR(statusOf(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
  *out = std::make_shared<GpuLane>(*this, stream);
  return {};
}

template <class Take, class Settle>
Status GpuDevice::counted(size_t bytes, void** out, Take take, Settle settle) {
  const auto size = static_cast<int64_t>(bytes);
  int64_t active, limit;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    active = counters_.active;
    limit = counters_.limit;
  }
  void* data = nullptr;
  cudaError_t error = cudaErrorMemoryAllocation;
  if (limit == 0 || active + size <= limit) {
    // Zero bytes have an address too: kernels of empty tensors are not launched, but views are
    // bound.
    const size_t asked = bytes == 0 ? 1 : bytes;
    error = take(&data, asked);
    if (error == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      settle();
      emptyCache();
      error = take(&data, asked);
    }
  }
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    return Status(Code::outOfMemory, "memory",
                  std::to_string(bytes) + " bytes with " + std::to_string(active) +
                      " in use and a limit of " +
                      (limit > 0 ? std::to_string(limit) : std::string("none")),
                  "Use smaller batches or sequences, dispose tensors that are no longer needed, or "
                  "raise the limit with device.setMemoryLimit");
  }
  LONGSPAN_RETURN_IF_ERROR(statusOf(error));
  std::lock_guard<std::mutex> lock(mutex_);
  counters_.active += size;
  counters_.liveBuffers += 1;
  if (counters_.active > counters_.peak) counters_.peak = counters_.active;
  *out = data;
  return {};
}

void GpuDevice::uncount(size_t bytes) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  counters_.active -= static_cast<int64_t>(bytes);
  counters_.liveBuffers -= 1;
}

Status GpuDevice::allocate(size_t bytes, cudaStream_t stream, void** out) {
  return counted(
      bytes, out, [&](void** data, size_t asked) { return cudaMallocAsync(data, asked, stream); },
      [&] { cudaStreamSynchronize(stream); });  // what is freed in stream order is free only now
}

void GpuDevice::free(void* data, size_t bytes, cudaStream_t stream) noexcept {
  // Any thread: a handle's last reference may go on the JavaScript thread.
  int before = 0;
  cudaGetDevice(&before);
  select();
  cudaFreeAsync(data, stream);
  cudaSetDevice(before);
  uncount(bytes);
}

Status GpuDevice::allocateFixed(size_t bytes, void** out) {
  select();
  return counted(
      bytes, out, [](void** data, size_t asked) { return cudaMalloc(data, asked); }, [] {});
}

void GpuDevice::freeFixed(void* data, size_t bytes) noexcept {
  int before = 0;
  cudaGetDevice(&before);
  select();
  cudaFree(data);
  cudaSetDevice(before);
  uncount(bytes);
}

MemoryCounters GpuDevice::memory() const {
  MemoryCounters counters;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    counters = counters_;
  }
  cudaMemPool_t pool;
  uint64_t reserved = 0, used = 0;
  if (cudaDeviceGetDefaultMemPool(&pool, gpu_.index) == cudaSuccess) {
    cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved);
    cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used);
  }
  counters.cached = static_cast<int64_t>(reserved > used ? reserved - used : 0);
  return counters;
}

void GpuDevice::resetPeak() {
  std::lock_guard<std::mutex> lock(mutex_);
  counters_.peak = counters_.active;
}

void GpuDevice::setLimit(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  counters_.limit = bytes;
}

void GpuDevice::emptyCache() {
  cudaMemPool_t pool;
  if (cudaDeviceGetDefaultMemPool(&pool, gpu_.index) == cudaSuccess) cudaMemPoolTrimTo(pool, 0);
  pinned_.trim();
}

namespace {

// 35: the driver is too old or absent; 100: no device. Anything else is a fault worth its own
// words.
std::string absence(cudaError_t error) {
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0) return "no NVIDIA driver was found";
    const auto text = [](int v) {
      return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
    };
    return "the NVIDIA driver supports CUDA " + text(driver) + ", this build needs " +
           text(runtime) + ": update the driver";
  }
  if (error == cudaErrorNoDevice) return "no NVIDIA GPU was found";
  return std::string("the CUDA driver reports: ") + cudaGetErrorString(error) + " (" +
         cudaGetErrorName(error) + ")";
}

Status describeGpu(int index, Gpu* gpu) {
  gpu->index = index;
  const auto read = [&](cudaDeviceAttr attribute, int* out) {
    return statusOf(cudaDeviceGetAttribute(out, attribute, index));
  };
  int shared = 0, pools = 0;
  LONGSPAN_RETURN_IF_ERROR(read(cudaDevAttrComputeCapabilityMajor, &gpu->major));
  LONGSPAN_RETURN_IF_ERROR(read(cudaDevAttrComputeCapabilityMinor, &gpu->minor));
  LONGSPAN_RETURN_IF_ERROR(read(cudaDevAttrMultiProcessorCount, &gpu->multiprocessors));
  LONGSPAN_RETURN_IF_ERROR(read(cudaDevAttrMaxSharedMemoryPerBlockOptin, &shared));
  LONGSPAN_RETURN_IF_ERROR(read(cudaDevAttrMemoryPoolsSupported, &pools));
  gpu->sharedPerBlock = static_cast<size_t>(shared);
  if (gpu->major < 8) {
    return Status(Code::unavailable, "",
                  "its compute capability is " + std::to_string(gpu->major) + "." +
                      std::to_string(gpu->minor) + ", at least 8.0 (Ampere) is needed",
                  "");
  }
#if defined(LONGSPAN_CUDA_ARCHITECTURES)
  if (!haveCodeFor(LONGSPAN_CUDA_ARCHITECTURES, gpu->major, gpu->minor)) {
    return Status(Code::unavailable, "",
                  "its compute capability is " + std::to_string(gpu->major) + "." +
                      std::to_string(gpu->minor) +
                      " and this build has code for " LONGSPAN_CUDA_ARCHITECTURES
                      " alone: build on that machine, or with LONGSPAN_CUDA_ARCHITECTURES=" +
                      std::to_string(gpu->capability()),
                  "");
  }
#endif
  if (pools == 0) return Status(Code::unavailable, "", "it has no stream-ordered memory", "");
  return {};
}

struct Found {
  std::vector<GpuDevice*> devices;  // null where `why` says something
  std::vector<std::string> why;
  std::string whyNone;
};

const Found& found() {
  static const Found* result = [] {
    auto* f = new Found();
    int count = 0;
    if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
      (void)cudaGetLastError();
      f->whyNone = absence(error);
      return f;
    }
    if (count == 0) f->whyNone = "no NVIDIA GPU was found";
    for (int i = 0; i < count; ++i) {
      Gpu gpu;
      const Status status = describeGpu(i, &gpu);
      f->devices.push_back(status.ok() ? new GpuDevice(gpu) : nullptr);
      f->why.push_back(status.ok() ? "" : status.detail().value);
      if (!status.ok()) continue;
      // Keep what is freed: giving it back to the driver at every synchronisation would cost more
      // than the kernels. emptyCache() returns it.
      cudaMemPool_t pool;
      uint64_t keep = UINT64_MAX;
      if (cudaDeviceGetDefaultMemPool(&pool, i) == cudaSuccess) {
        cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep);
      }
    }
    return f;
  }();
  return *result;
}

}  // namespace
}  // namespace cuda

Device* cudaDevice(int index, std::string* why) {
  const cuda::Found& f = cuda::found();
  if (index >= 0 && index < static_cast<int>(f.devices.size())) {
    *why = f.why[static_cast<size_t>(index)];
    return f.devices[static_cast<size_t>(index)];
  }
  *why = !f.whyNone.empty()
             ? f.whyNone
             : "there are " + std::to_string(f.devices.size()) + " GPUs, the first is cuda:0";
  return nullptr;
}

Status runOnLane(const Call& call, Lane& lane, Workspace workspace) {
  auto& gpu = static_cast<cuda::GpuLane&>(lane);
  cuda::Context context{gpu.stream(), workspace, *gpu.device().gpu()};
  return call.runOnCuda(context);
}

}  // namespace longspan
