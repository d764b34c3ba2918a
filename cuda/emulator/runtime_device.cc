#include <algorithm>
#include <cstdio>
#include <cstring>

#include "cuda/emulator/driver.h"

using namespace longspan::emulator;

namespace {

constexpr int kVersion = CUDART_VERSION;

int attribute(cudaDeviceAttr attribute) {
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      return 1024;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return 48 * 1024;
    case cudaDevAttrWarpSize:
      return 32;
    case cudaDevAttrMaxRegistersPerBlock:
      return 65536;
    case cudaDevAttrMultiProcessorCount:
      return environment().multiprocessors;
    case cudaDevAttrL2CacheSize:
      return 50 << 20;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return 2048;
    case cudaDevAttrComputeCapabilityMajor:
      return 9;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return 228 * 1024;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return static_cast<int>(kSharedLimit);
    case cudaDevAttrMemoryPoolsSupported:
      return 1;
    default:
      return 0;
  }
}

}  // namespace

cudaError_t cudaDriverGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  Call call;
  *count = environment().devices;
  return *count == 0 ? fail(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  Call call;
  if (const cudaError_t error = checkDevice(device); error != cudaSuccess) return error;
  currentDevice() = device;
  return cudaSuccess;
}

cudaError_t cudaInitDevice(int device, unsigned, unsigned) {
  Call call;
  return checkDevice(device);
}

cudaError_t cudaGetDevice(int* device) {
  *device = currentDevice();
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int device) {
  Call call;
  if (const cudaError_t error = checkDevice(device); error != cudaSuccess) return error;
  *value = attribute(which);
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  Call call;
  if (const cudaError_t error = checkDevice(device); error != cudaSuccess) return error;
  *p = {};
  std::snprintf(p->name, sizeof p->name, "longspan emulator");
  p->totalGlobalMem = environment().memory;
  p->sharedMemPerBlock = 48 * 1024;
  p->sharedMemPerBlockOptin = kSharedLimit;
  p->sharedMemPerMultiprocessor = 228 * 1024;
  p->regsPerBlock = 65536;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 2048;
  constexpr int kThreads[3] = {1024, 1024, 64}, kGrid[3] = {0x7fffffff, 65535, 65535};
  std::copy_n(kThreads, 3, p->maxThreadsDim);
  std::copy_n(kGrid, 3, p->maxGridSize);
  p->major = 9;
  p->multiProcessorCount = environment().multiprocessors;
  p->l2CacheSize = 50 << 20;
  p->uuid.bytes[15] = static_cast<char>(device + 1);
  p->pciBusID = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Call call;
  if (const cudaError_t error = refuseDuringCapture(); error != cudaSuccess) return error;
  trimPools();
  return checkDevice(currentDevice());
}

cudaError_t cudaDeviceReset() { return fail(cudaErrorNotSupported); }

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute which, int value) {
  if (kernel == nullptr) return fail(cudaErrorInvalidDeviceFunction);
  if (which == cudaFuncAttributeMaxDynamicSharedMemorySize &&
      (value < 0 || static_cast<size_t>(value) > kSharedLimit)) {
    return fail(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads,
                                                          size_t sharedBytes) {
  if (threads <= 0 || threads > 1024) return fail(cudaErrorInvalidValue);
  constexpr size_t kReserved = 1024;  // of shared memory, by the system for each block
  const int byThreads = 2048 / threads;
  const int byShared = static_cast<int>(228 * 1024 / (sharedBytes + kReserved));
  *blocks = std::min({byThreads, byShared, 32});
  return cudaSuccess;
}
