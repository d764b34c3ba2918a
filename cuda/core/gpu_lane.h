// A CUDA stream behind a Stream.
#pragma once

#include <atomic>
#include <mutex>

#include "cuda/core/gpu_device.h"
#include "cuda/core/gpu_graph.h"

namespace longspan::cuda {

class GpuLane final : public Lane, public MemorySource {
 public:
  GpuLane(GpuDevice& device, cudaStream_t stream) : device_(device), stream_(stream) {}
  ~GpuLane() override;

  cudaStream_t stream() const { return stream_; }
  GpuDevice& device() const { return device_; }

  bool immediate() const override { return false; }
  void attach() override { device_.select(); }

  std::shared_ptr<MemorySource> memory() override;
  Status allocate(size_t bytes, void** out) override {
    return device_.allocate(bytes, stream_, out);
  }
  void free(void* data, size_t bytes) noexcept override;
  void freeAfter(void* data, size_t bytes,
                 const std::vector<std::shared_ptr<Lane>>& users) noexcept override;

  Status waitFor(Lane& other) override;
  Status synchronize() override;
  void whenEnded(std::function<void(const Status&)> done) override;

  Status beginCapture() override;
  Status endCapture(std::shared_ptr<LaneGraph>* out) override;
  Status launch(LaneGraph& graph) override;

  Status upload(void* to, const void* from, size_t bytes) override;
  Status upload(void* to, const HostBlock& from, size_t bytes) override;
  Status download(void* to, const void* from, size_t bytes) override;
  void read(const void* from, size_t bytes,
            std::function<void(const Status&, const std::byte*)> done) override;

 private:
  GpuDevice& device_;
  const cudaStream_t stream_;

  struct Capture {
    std::shared_ptr<GraphMemory> memory;
    std::vector<HostBlock> blocks;
  };
  std::unique_ptr<Capture> capture_;  // the stream's thread
  // A stream that records cannot free: what other threads give back meanwhile waits for its end.
  struct Deferred {
    void* data;
    size_t bytes;
  };
  std::mutex mutex_;
  bool recording_ = false;
  std::vector<Deferred> deferred_;
};

}  // namespace longspan::cuda
