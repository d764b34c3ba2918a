#include "cuda/emulator/driver.h"

#include <algorithm>

namespace longspan::emulator {
namespace {

struct ErrorState {
  cudaError_t last = cudaSuccess;
  cudaError_t described = cudaSuccess;  // what `text` is about
  std::vector<std::string> text;        // one; lines unresolved until it is read
};

ErrorState& errors() {
  thread_local ErrorState state;
  return state;
}

struct Name {
  cudaError_t error;
  const char *name, *text;
};

constexpr Name kNames[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection",
     "invalid copy direction for memcpy"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources",
     "too many resources requested for launch"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorAssert, "cudaErrorAssert", "device-side assert triggered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "the capture was not initiated in this stream"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined",
     "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorGraphExecUpdateFailure, "cudaErrorGraphExecUpdateFailure",
     "the graph update was not performed because it included changes which violated constraints "
     "specific to instantiated graph update"},
};

const Name& textsOf(cudaError_t error) {
  static constexpr Name kUnknown{cudaErrorUnknown, "cudaErrorUnknown", "unknown error"};
  const auto* it = std::find_if(std::begin(kNames), std::end(kNames),
                                [&](const Name& n) { return n.error == error; });
  return it == std::end(kNames) ? kUnknown : *it;
}

}  // namespace

Driver& driver() {
  static Driver& instance = *new Driver;
  return instance;
}

int& currentDevice() {
  thread_local int device = 0;
  return device;
}

cudaError_t fail(cudaError_t error, std::string text) {
  ErrorState& state = errors();
  state.last = error;
  state.described = error;
  state.text = {std::string(textsOf(error).text) + (text.empty() ? "" : ": " + text)};
  return error;
}

cudaError_t checkDevice(int device) {
  if (environment().devices == 0) return fail(cudaErrorNoDevice);
  if (device < 0 || device >= environment().devices) return fail(cudaErrorInvalidDevice);
  return driver().devices[device].lost ? fail(cudaErrorECCUncorrectable) : cudaSuccess;
}

CUstream_st* resolve(cudaStream_t stream) {
  if (stream == nullptr) {
    CUstream_st& standard = driver().devices[currentDevice()].defaultStream;
    standard.device = currentDevice();
    return &standard;
  }
  return driver().streams.contains(stream) ? stream : nullptr;
}

cudaError_t submit(CUstream_st& stream, Node::Kind kind, std::function<cudaError_t()> work) {
  if (const cudaError_t error = checkDevice(stream.device); error != cudaSuccess) return error;
  if (!stream.capture) return work();
  if (stream.capture->invalidated) return fail(cudaErrorStreamCaptureInvalidated);
  stream.capture->graph->nodes.push_back(std::make_shared<Node>(Node{kind, std::move(work)}));
  stream.forked = true;
  return cudaSuccess;
}

cudaError_t refuseDuringCapture() {
  for (const auto& capture : driver().captures) {
    if (capture->mode == cudaStreamCaptureModeRelaxed) continue;
    if (capture->mode == cudaStreamCaptureModeGlobal ||
        capture->thread == std::this_thread::get_id()) {
      capture->invalidated = true;
      return fail(cudaErrorStreamCaptureUnsupported);
    }
  }
  return cudaSuccess;
}

void trimPools() {
  for (EmulatedDevice& device : driver().devices) {
    Pool& pool = device.pool;
    pool.reserved = std::max(pool.used, std::min(pool.reserved, pool.threshold));
  }
}

}  // namespace longspan::emulator

using namespace longspan::emulator;

cudaError_t cudaPeekAtLastError() {
  Call call;
  if (driver().devices[currentDevice()].lost) return cudaErrorECCUncorrectable;
  return errors().last;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = cudaPeekAtLastError();
  errors().last = cudaSuccess;
  return error;
}

const char* cudaGetErrorName(cudaError_t error) { return textsOf(error).name; }

const char* cudaGetErrorString(cudaError_t error) {
  ErrorState& state = errors();
  if (error == cudaSuccess || state.described != error) return textsOf(error).text;
  Call call;
  resolveLines(state.text);
  return state.text.front().c_str();
}
