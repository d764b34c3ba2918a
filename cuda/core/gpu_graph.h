// A recording of a lane's work, and the memory that the recording's tensors live in.
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "cuda/core/gpu_device.h"

namespace longspan::cuda {

// Memory that stays where it is for as long as the graph may run. What is given back while
// recording serves later tasks of the same recording; what outlives the recording stays taken.
class GraphMemory final : public MemorySource {
 public:
  explicit GraphMemory(GpuDevice& device) : device_(device) {}
  ~GraphMemory() override;

  Status allocate(size_t bytes, void** out) override;
  void free(void* data, size_t bytes) noexcept override;
  void freeAfter(void* data, size_t bytes,
                 const std::vector<std::shared_ptr<Lane>>&) noexcept override {
    free(data, bytes);
  }
  void close();

 private:
  struct Block {
    void* data;
    size_t bytes;
  };
  GpuDevice& device_;
  std::mutex mutex_;
  bool open_ = true;
  std::vector<Block> all_;
  std::map<size_t, std::vector<void*>> free_;  // by rounded size
};

class GpuGraph final : public LaneGraph {
 public:
  GpuGraph(cudaGraphExec_t executable, std::shared_ptr<GraphMemory> memory,
           std::vector<HostBlock> blocks)
      : executable_(executable), memory_(std::move(memory)), blocks_(std::move(blocks)) {}
  ~GpuGraph() override { cudaGraphExecDestroy(executable_); }

  cudaGraphExec_t executable() const { return executable_; }

 private:
  const cudaGraphExec_t executable_;
  const std::shared_ptr<GraphMemory> memory_;
  const std::vector<HostBlock> blocks_;  // copied from at every run
};

}  // namespace longspan::cuda
