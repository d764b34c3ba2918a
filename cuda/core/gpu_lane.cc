#include "cuda/core/gpu_lane.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace longspan::cuda {
namespace {

// Large copies go in pieces: the processor fills one block while the GPU reads the other.
constexpr size_t kPiece = size_t{4} << 20;

}  // namespace

GpuLane::~GpuLane() {
  device_.select();
  cudaStreamDestroy(stream_);  // what is enqueued still runs
}

std::shared_ptr<MemorySource> GpuLane::memory() {
  if (capture_) return capture_->memory;
  return std::static_pointer_cast<GpuLane>(shared_from_this());
}

void GpuLane::free(void* data, size_t bytes) noexcept {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (recording_) {
      deferred_.push_back({data, bytes});
      return;
    }
  }
  device_.free(data, bytes, stream_);
}

Status GpuLane::beginCapture() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    recording_ = true;
  }
  capture_ = std::make_unique<Capture>(std::make_shared<GraphMemory>(device_));
  // Relaxed: the recording's memory is taken by ordinary calls of this thread meanwhile.
  return statusOf(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed));
}

Status GpuLane::endCapture(std::shared_ptr<LaneGraph>* out) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaError_t error = cudaStreamEndCapture(stream_, &graph);
  if (error == cudaSuccess) error = cudaGraphInstantiate(&executable, graph, 0);
  if (graph != nullptr) cudaGraphDestroy(graph);
  const std::unique_ptr<Capture> capture = std::move(capture_);
  capture->memory->close();
  if (error == cudaSuccess) {
    *out = std::make_shared<GpuGraph>(executable, capture->memory, std::move(capture->blocks));
  }
  std::vector<Deferred> deferred;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    recording_ = false;
    deferred.swap(deferred_);
  }
  for (const Deferred& d : deferred) device_.free(d.data, d.bytes, stream_);
  return statusOf(error);
}

Status GpuLane::launch(LaneGraph& graph) {
  return statusOf(cudaGraphLaunch(static_cast<GpuGraph&>(graph).executable(), stream_));
}

void GpuLane::freeAfter(void* data, size_t bytes,
                        const std::vector<std::shared_ptr<Lane>>& users) noexcept {
  for (const auto& user : users) {
    if (!waitFor(*user).ok()) synchronizeQuietly(*user);
  }
  free(data, bytes);
}

Status GpuLane::waitFor(Lane& other) {
  if (&other == this || other.immediate()) return {};
  // A recording may not wait for work outside of it: that work ends before it goes on.
  if (capture_) return other.synchronize();
  auto& gpu = static_cast<GpuLane&>(other);
  cudaEvent_t event = nullptr;
  gpu.device_.select();
  cudaError_t error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  if (error == cudaSuccess) error = cudaEventRecord(event, gpu.stream_);
  device_.select();
  if (error == cudaSuccess) error = cudaStreamWaitEvent(stream_, event, 0);
  if (event != nullptr) cudaEventDestroy(event);  // released once the wait is over
  return statusOf(error);
}

Status GpuLane::synchronize() {
  device_.select();
  return statusOf(cudaStreamSynchronize(stream_));
}

void GpuLane::whenEnded(std::function<void(const Status&)> done) {
  device_.waiter().after(stream_, std::move(done));
}

Status GpuLane::upload(void* to, const HostBlock& from, size_t bytes) {
  if (bytes == 0) return {};
  LONGSPAN_RETURN_IF_ERROR(
      statusOf(cudaMemcpyAsync(to, from.get(), bytes, cudaMemcpyHostToDevice, stream_)));
  if (capture_) {
    capture_->blocks.push_back(from);
  } else {
    whenEnded([from](const Status&) {});  // holds the block
  }
  return {};
}

Status GpuLane::upload(void* to, const void* from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += kPiece) {
    const size_t size = std::min(kPiece, bytes - at);
    HostBlock block;
    LONGSPAN_RETURN_IF_ERROR(device_.hostBlock(size, &block));
    std::memcpy(block.get(), static_cast<const std::byte*>(from) + at, size);
    LONGSPAN_RETURN_IF_ERROR(upload(static_cast<std::byte*>(to) + at, block, size));
  }
  return {};
}

Status GpuLane::download(void* to, const void* from, size_t bytes) {
  device_.select();
  // One piece ahead: while the processor empties a block the GPU fills the other.
  HostBlock blocks[2];
  cudaEvent_t filled[2] = {};
  Status status;
  const size_t pieces = (bytes + kPiece - 1) / kPiece;
  const auto sizeOfPiece = [&](size_t i) { return std::min(kPiece, bytes - i * kPiece); };
  for (size_t i = 0; i < std::min<size_t>(2, pieces) && status.ok(); ++i) {
    status = device_.hostBlock(std::min(kPiece, bytes), &blocks[i]);
    if (status.ok())
      status = statusOf(cudaEventCreateWithFlags(&filled[i], cudaEventDisableTiming));
  }
  const auto fill = [&](size_t i) {
    const std::byte* source = static_cast<const std::byte*>(from) + i * kPiece;
    LONGSPAN_RETURN_IF_ERROR(statusOf(cudaMemcpyAsync(blocks[i % 2].get(), source, sizeOfPiece(i),
                                                      cudaMemcpyDeviceToHost, stream_)));
    return statusOf(cudaEventRecord(filled[i % 2], stream_));
  };
  if (status.ok() && pieces > 0) status = fill(0);
  for (size_t i = 0; i < pieces && status.ok(); ++i) {
    if (i + 1 < pieces) status = fill(i + 1);
    if (status.ok()) status = statusOf(cudaEventSynchronize(filled[i % 2]));
    if (status.ok()) {
      std::memcpy(static_cast<std::byte*>(to) + i * kPiece, blocks[i % 2].get(), sizeOfPiece(i));
    }
  }
  if (!status.ok()) cudaStreamSynchronize(stream_);  // no copy may reach a block given back
  for (cudaEvent_t event : filled) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  return status;
}

void GpuLane::read(const void* from, size_t bytes,
                   std::function<void(const Status&, const std::byte*)> done) {
  HostBlock block;
  if (Status status = device_.hostBlock(bytes, &block); !status.ok()) return done(status, nullptr);
  if (bytes > 0) {
    const Status status =
        statusOf(cudaMemcpyAsync(block.get(), from, bytes, cudaMemcpyDeviceToHost, stream_));
    if (!status.ok()) return done(status, nullptr);
  }
  whenEnded([block, done = std::move(done)](const Status& status) { done(status, block.get()); });
}

}  // namespace longspan::cuda
