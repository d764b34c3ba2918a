// The emulated runtime: memory and its pool, streams and events, capture and replay, several
// devices, injected faults.
#include "cuda/emulator/tests/harness.h"

namespace longspan::cuda::test {
namespace {

__global__ void addScaled(float* y, const float* x, const float* a) {
  y[threadIdx.x] += *a * x[threadIdx.x];
}

__global__ void sets(float* y, float value) { y[threadIdx.x] = value; }

class Stream {
 public:
  Stream() { expectClean(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

uint64_t poolValue(cudaMemPoolAttr attribute) {
  cudaMemPool_t pool;
  expectClean(cudaDeviceGetDefaultMemPool(&pool, 0));
  uint64_t value = 0;
  expectClean(cudaMemPoolGetAttribute(pool, attribute, &value));
  return value;
}

// Restores what a case changes about the machine.
struct Restore {
  ~Restore() {
    emulator::setDeviceMemory(size_t{4} << 30);
    emulator::setDeviceCount(1);
    emulator::failLaunch(0);
    for (int i = 0; i < 2; ++i) emulator::restoreDevice(i);
    cudaSetDevice(0);
    cudaGetLastError();
  }
};

LONGSPAN_CASE("runtime", "copies and fills in every direction, and out of bounds") {
  const Stream stream;
  const std::vector<float> values = wholeNumbers(100, 1);
  const Buffer<float> a(100), b(100);
  std::vector<float> back(100);
  expectClean(cudaMemcpyAsync(a, values.data(), 400, cudaMemcpyHostToDevice, stream));
  expectClean(cudaMemcpyAsync(b, a, 400, cudaMemcpyDeviceToDevice, stream));
  expectClean(cudaMemsetAsync(b, 0, 40, stream));
  expectClean(cudaMemcpyAsync(back.data(), b, 400, cudaMemcpyDeviceToHost, stream));
  expectClean(cudaStreamSynchronize(stream));
  expect(back[9] == 0.f && back[10] == values[10], "values");
  expectError(cudaMemcpyAsync(a, values.data(), 401, cudaMemcpyHostToDevice, stream),
              cudaErrorInvalidValue);
  expectError(cudaMemcpyAsync(a, values.data(), 400, cudaMemcpyDeviceToHost, stream),
              cudaErrorInvalidMemcpyDirection);
  expectError(cudaMemset(a + 90, 0, 44), cudaErrorInvalidValue);
  expectClean(cudaMemcpy2DAsync(a, 40, b, 80, 40, 5, cudaMemcpyDeviceToDevice, stream));
  expect(a.download()[10] == values[20], "rows of a matrix");
  cudaGetLastError();
}

LONGSPAN_CASE("runtime", "stream-ordered allocation counts, trims and ends at the limit") {
  const Restore restore;
  const Stream stream;
  cudaMemPool_t pool;
  expectClean(cudaDeviceGetDefaultMemPool(&pool, 0));
  const uint64_t used = poolValue(cudaMemPoolAttrUsedMemCurrent);
  float* data = nullptr;
  expectClean(cudaMallocAsync(&data, 1000, stream));
  expect(poolValue(cudaMemPoolAttrUsedMemCurrent) == used + 1024, "used");
  expect(poolValue(cudaMemPoolAttrReservedMemCurrent) >= used + 1024, "reserved");
  uint64_t keep = ~uint64_t{0};
  expectClean(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep));
  expectClean(cudaFreeAsync(data, stream));
  expectClean(cudaStreamSynchronize(stream));
  expect(poolValue(cudaMemPoolAttrUsedMemCurrent) == used, "freed");
  expect(poolValue(cudaMemPoolAttrReservedMemCurrent) > used, "kept below the threshold");
  expectClean(cudaMemPoolTrimTo(pool, 0));
  expect(poolValue(cudaMemPoolAttrReservedMemCurrent) == used, "trimmed");
  expectError(cudaFreeAsync(data, stream), cudaErrorInvalidValue);

  emulator::setDeviceMemory(size_t{8} << 20);
  expectError(cudaMallocAsync(&data, size_t{9} << 20, stream), cudaErrorMemoryAllocation);
  expectError(cudaMalloc(&data, size_t{9} << 20), cudaErrorMemoryAllocation);
  expectClean(cudaMallocAsync(&data, size_t{7} << 20, stream));
  float* more = nullptr;
  expectError(cudaMallocAsync(&more, size_t{2} << 20, stream), cudaErrorMemoryAllocation);
  expect(std::string(cudaGetErrorString(cudaErrorMemoryAllocation)).find("2097152") !=
             std::string::npos,
         "the sizes are told");
  expectClean(cudaFreeAsync(data, stream));
  expectClean(cudaMallocAsync(&more, size_t{2} << 20, stream));
  expectClean(cudaFreeAsync(more, stream));
  size_t available = 0, total = 0;
  expectClean(cudaMemGetInfo(&available, &total));
  expect(total == size_t{8} << 20 && available <= total, "memory info");
}

LONGSPAN_CASE("runtime", "streams, events, host functions and dead handles") {
  cudaStream_t stream;
  cudaEvent_t first, second;
  expectClean(cudaStreamCreate(&stream));
  expectClean(cudaEventCreate(&first));
  expectClean(cudaEventCreateWithFlags(&second, cudaEventDisableTiming));
  expectClean(cudaEventRecord(first, stream));
  expectClean(cudaStreamWaitEvent(stream, first));
  int called = 0;
  expectClean(cudaLaunchHostFunc(
      stream, [](void* data) { ++*static_cast<int*>(data); }, &called));
  expectClean(cudaStreamSynchronize(stream));
  expect(called == 1, "called once");
  expectClean(cudaEventQuery(first));
  expectClean(cudaEventSynchronize(first));
  float ms = 0.f;
  expectClean(cudaEventElapsedTime(&ms, first, first));
  expectError(cudaEventElapsedTime(&ms, first, second), cudaErrorInvalidResourceHandle);
  expectClean(cudaEventDestroy(first));
  expectClean(cudaEventDestroy(second));
  expectClean(cudaStreamDestroy(stream));
  expectError(cudaEventQuery(first), cudaErrorInvalidResourceHandle);
  expectError(cudaStreamSynchronize(stream), cudaErrorInvalidResourceHandle);
  expectError(launch(sets, dim3(1), dim3(1), 0, stream, nullptr, 0.f),
              cudaErrorInvalidResourceHandle);
  cudaGetLastError();
}

LONGSPAN_CASE("runtime", "a captured graph replays with what its memory then holds") {
  const Stream stream, other;
  const Buffer<float> x(filled(32, 2.f)), y(filled(32)), a(filled(1, 1.f));
  cudaEvent_t fork, join;
  expectClean(cudaEventCreate(&fork));
  expectClean(cudaEventCreate(&join));
  expectClean(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  cudaStreamCaptureStatus status;
  expectClean(cudaStreamIsCapturing(stream, &status));
  expect(status == cudaStreamCaptureStatusActive, "capturing");
  expectClean(launch(addScaled, dim3(1), dim3(32), 0, stream, y.get(), x.get(), a.get()));
  // Another stream joins and comes back.
  expectClean(cudaEventRecord(fork, stream));
  expectClean(cudaStreamWaitEvent(other, fork));
  float* scratch = nullptr;
  expectClean(cudaMallocAsync(&scratch, 128, other));
  expectClean(launch(sets, dim3(1), dim3(32), 0, other, scratch, 10.f));
  expectClean(launch(addScaled, dim3(1), dim3(32), 0, other, y.get(), scratch, a.get()));
  expectClean(cudaFreeAsync(scratch, other));
  expectClean(cudaEventRecord(join, other));
  expectClean(cudaStreamWaitEvent(stream, join));
  cudaGraph_t graph;
  expectClean(cudaStreamEndCapture(stream, &graph));
  expect(y.download()[0] == 0.f, "nothing ran while capturing");
  size_t nodes = 0;
  expectClean(cudaGraphGetNodes(graph, nullptr, &nodes));
  expect(nodes == 5, "five nodes");
  cudaGraphExec_t executable;
  expectClean(cudaGraphInstantiate(&executable, graph));
  expectClean(cudaGraphLaunch(executable, stream));
  expect(y.download()[5] == 12.f, "once");
  expectClean(cudaMemset(y.get(), 0, 128));
  a.upload({3.f});
  expectClean(cudaGraphLaunch(executable, stream));
  expect(y.download()[5] == 36.f, "again, with another factor");
  expectFinding(launch(sets, dim3(1), dim3(32), 0, stream, scratch, 1.f), "USE AFTER FREE");

  cudaGraphExecUpdateResultInfo info;
  expectClean(cudaGraphExecUpdate(executable, graph, &info));
  expectClean(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  cudaGraph_t empty;
  expectClean(cudaStreamEndCapture(stream, &empty));
  expectError(cudaGraphExecUpdate(executable, empty, &info), cudaErrorGraphExecUpdateFailure);
  expectClean(cudaGraphDestroy(empty));
  expectClean(cudaGraphDestroy(graph));
  expectClean(cudaGraphLaunch(executable, stream));
  expectClean(cudaGraphExecDestroy(executable));
  expectError(cudaGraphLaunch(executable, stream), cudaErrorInvalidValue);
  expectClean(cudaEventDestroy(fork));
  expectClean(cudaEventDestroy(join));
  cudaGetLastError();
}

LONGSPAN_CASE("runtime", "what a capture does not allow") {
  const Stream stream, other;
  cudaGraph_t graph;
  float* data = nullptr;
  expectClean(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  expectError(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  expectError(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  expectClean(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  expectError(cudaMalloc(&data, 64), cudaErrorStreamCaptureUnsupported);
  expectError(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  expectError(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnmatched);
  // A stream that joined and did not come back.
  const Buffer<float> y(32);
  cudaEvent_t fork;
  expectClean(cudaEventCreate(&fork));
  expectClean(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  expectClean(cudaEventRecord(fork, stream));
  expectClean(cudaStreamWaitEvent(other, fork));
  expectClean(launch(sets, dim3(1), dim3(32), 0, other, y.get(), 1.f));
  expectError(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
  expectClean(cudaEventDestroy(fork));
  cudaGetLastError();
}

LONGSPAN_CASE("runtime", "several devices have their own memory") {
  const Restore restore;
  emulator::setDeviceCount(2);
  int count = 0;
  expectClean(cudaGetDeviceCount(&count));
  expect(count == 2, "two devices");
  const Buffer<float> first(filled(32));
  expectClean(cudaSetDevice(1));
  {
    const Stream stream;
    const Buffer<float> second(filled(32));
    expectClean(launch(sets, dim3(1), dim3(32), 0, stream, second.get(), 1.f));
    expectFinding(launch(sets, dim3(1), dim3(32), 0, stream, first.get(), 1.f), "WRONG DEVICE");
  }
  expectError(cudaSetDevice(2), cudaErrorInvalidDevice);
  cudaDeviceProp properties;
  expectClean(cudaGetDeviceProperties(&properties, 1));
  expect(properties.major == 9 && properties.totalGlobalMem == size_t{4} << 30, "properties");
  emulator::setDeviceCount(0);
  expectError(cudaGetDeviceCount(&count), cudaErrorNoDevice);
}

LONGSPAN_CASE("runtime", "a failing launch, and a lost device") {
  const Restore restore;
  const Buffer<float> y(32);
  const auto run = [&] { return launch(sets, dim3(1), dim3(32), 0, nullptr, y.get(), 1.f); };
  emulator::failLaunch(2);
  expectClean(run());
  expectError(run(), cudaErrorLaunchFailure);
  expectClean(run());
  emulator::loseDevice(0);
  expectError(run(), cudaErrorECCUncorrectable);
  expectError(cudaMemset(y.get(), 0, 4), cudaErrorECCUncorrectable);
  expectError(cudaDeviceSynchronize(), cudaErrorECCUncorrectable);
  expect(cudaGetLastError() == cudaErrorECCUncorrectable, "sticky");
  expect(cudaGetLastError() == cudaErrorECCUncorrectable, "still");
  emulator::restoreDevice(0);
  cudaGetLastError();
  expectClean(run());
}

LONGSPAN_CASE("runtime", "launches that no device would take") {
  const auto run = [](dim3 grid, dim3 block, size_t shared) {
    return launch(sets, grid, block, shared, nullptr, nullptr, 0.f);
  };
  expectError(run(dim3(0), dim3(32), 0), cudaErrorInvalidConfiguration);
  expectError(run(dim3(1, 65536), dim3(32), 0), cudaErrorInvalidConfiguration);
  expectError(run(dim3(1), dim3(1025), 0), cudaErrorInvalidConfiguration);
  expectError(run(dim3(1), dim3(32), 228 * 1024), cudaErrorInvalidValue);
  cudaGetLastError();
}

LONGSPAN_CASE("runtime", "memory of the device returns") {
  const size_t before = emulator::liveDeviceBytes();
  {
    const Buffer<float> a(1000);
    expect(emulator::liveDeviceBytes() == before + 4000, "live");
  }
  expect(emulator::liveDeviceBytes() == before, "gone");
}

}  // namespace
}  // namespace longspan::cuda::test
