#include "cuda/core/gpu_graph.h"

#include <bit>

namespace longspan::cuda {
namespace {

size_t roundUp(size_t bytes) { return std::bit_ceil(bytes < 512 ? size_t{512} : bytes); }

}  // namespace

GraphMemory::~GraphMemory() {
  for (const Block& block : all_) device_.freeFixed(block.data, block.bytes);
}

Status GraphMemory::allocate(size_t bytes, void** out) {
  const size_t rounded = roundUp(bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  if (auto& list = free_[rounded]; !list.empty()) {
    *out = list.back();
    list.pop_back();
    return {};
  }
  LONGSPAN_RETURN_IF_ERROR(device_.allocateFixed(rounded, out));
  all_.push_back({*out, rounded});
  return {};
}

void GraphMemory::free(void* data, size_t bytes) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!open_) return;
  try {
    free_[roundUp(bytes)].push_back(data);
  } catch (const std::bad_alloc&) {
    // The block is not reused; it goes with the graph.
  }
}

void GraphMemory::close() {
  std::lock_guard<std::mutex> lock(mutex_);
  open_ = false;
}

}  // namespace longspan::cuda
