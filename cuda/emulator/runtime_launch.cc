// Kernel launches and the faults that tests inject into them; the functions of control.h.
#include <algorithm>
#include <cstring>

#include "cuda/emulator/barrier.h"
#include "cuda/emulator/control.h"
#include "cuda/emulator/driver.h"
#include "cuda/emulator/launch.h"

namespace longspan::emulator {
namespace {

LaunchReport& threadReport() {
  thread_local LaunchReport report;
  return report;
}

// A copy of a launch's arguments, for a graph that runs it later.
struct RecordedCall {
  KernelCall call;
  std::vector<std::unique_ptr<std::byte, void (*)(std::byte*)>> values;
  std::vector<void*> addresses;
  std::vector<size_t> sizes;

  explicit RecordedCall(const KernelCall& original) : call(original) {
    constexpr std::align_val_t kAlignment{64};  // of a tensor map, the strictest argument
    for (int i = 0; i < original.count; ++i) {
      values.emplace_back(static_cast<std::byte*>(::operator new(original.sizes[i], kAlignment)),
                          [](std::byte* p) { ::operator delete(p, std::align_val_t{64}); });
      std::memcpy(values.back().get(), original.arguments[i], original.sizes[i]);
      addresses.push_back(values.back().get());
      sizes.push_back(original.sizes[i]);
    }
    call.arguments = addresses.data();
    call.sizes = sizes.data();
  }
  RecordedCall(const RecordedCall&) = delete;
};

cudaError_t execute(const KernelCall& call, dim3 grid, dim3 block, size_t sharedBytes, int device) {
  Driver& d = driver();
  Environment& e = environment();
  const uint64_t number = ++d.launches;
  if (number == e.failLaunch) {
    ++d.failedLaunches;
    return fail(cudaErrorLaunchFailure, "injected by the emulator");
  }
  if (e.loseAtLaunch != 0 && number >= e.loseAtLaunch) {
    e.loseAtLaunch = 0;
    d.devices[device].lost = true;
    return fail(cudaErrorECCUncorrectable);
  }
  LaunchReport& report = threadReport();
  runLaunch(machine(), {call.run, call.kernel, call.arguments, grid, block, sharedBytes, device},
            report);
  tellOfSkippedBarrier();
  if (report.clean()) return cudaSuccess;
  ++d.failedLaunches;
  std::string text;
  for (const std::string& error : report.errors) text += (text.empty() ? "" : "\n  ") + error;
  return fail(cudaErrorLaunchFailure, text);
}

}  // namespace

cudaError_t launchKernel(const KernelCall& call, dim3 grid, dim3 block, size_t sharedBytes,
                         cudaStream_t stream) {
  Call lock;
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  constexpr uint32_t kMaxThreads = 1024, kMaxGrid = 65535, kMaxDepth = 64;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxThreads || block.z > kMaxDepth || grid.x == 0 || grid.y == 0 ||
      grid.z == 0 || grid.x > 0x7fffffffu || grid.y > kMaxGrid || grid.z > kMaxGrid) {
    return fail(cudaErrorInvalidConfiguration);
  }
  if (sharedBytes > kSharedLimit) return fail(cudaErrorInvalidValue, "too much shared memory");
  const int device = s->device;
  if (!s->capture) {
    if (const cudaError_t error = checkDevice(device); error != cudaSuccess) return error;
    return execute(call, grid, block, sharedBytes, device);
  }
  auto recorded = std::make_shared<RecordedCall>(call);
  return submit(*s, Node::Kind::kernel,
                [=] { return execute(recorded->call, grid, block, sharedBytes, device); });
}

Settings settings() {
  Call call;
  return environment().settings;
}

void setSettings(const Settings& settings) {
  Call call;
  environment().settings = settings;
}

bool LaunchReport::mentions(const char* text) const {
  return std::any_of(errors.begin(), errors.end(),
                     [&](const std::string& e) { return e.find(text) != std::string::npos; });
}

const LaunchReport& lastLaunch() {
  Call call;
  resolveLines(threadReport().errors);
  return threadReport();
}

uint64_t launchesSoFar() {
  Call call;
  return driver().launches;
}

uint64_t failedLaunches() {
  Call call;
  return driver().failedLaunches;
}

void failLaunch(uint64_t number) {
  Call call;
  environment().failLaunch = number == 0 ? 0 : driver().launches + number;
}

void loseDevice(int device) {
  Call call;
  driver().devices[device].lost = true;
}

void restoreDevice(int device) {
  Call call;
  driver().devices[device].lost = false;
}

void setDeviceCount(int count) {
  Call call;
  environment().devices = std::clamp(count, 0, kMaxDevices);
}

void setDeviceMemory(size_t bytes) {
  Call call;
  environment().memory = bytes;
}

size_t liveDeviceBytes() {
  Call call;
  return machine().memory.liveBytes();
}

}  // namespace longspan::emulator
