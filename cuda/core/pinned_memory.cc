#include "cuda/core/pinned_memory.h"

#include <bit>
#include <new>
#include <string>

#include "cuda/runtime.h"

namespace longspan::cuda {

Status PinnedMemory::take(size_t bytes, HostBlock* out) {
  const size_t rounded = std::bit_ceil(bytes < 4096 ? size_t{4096} : bytes);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    void* block = nullptr;
    if (auto& list = kept_[rounded]; !list.empty()) {
      block = list.back();
      list.pop_back();
    } else if (locked_ + rounded <= kLimit &&
               cudaHostAlloc(&block, rounded, cudaHostAllocPortable) == cudaSuccess) {
      locked_ += rounded;
    } else {
      (void)cudaGetLastError();  // no more pages to lock is no failure
      block = nullptr;
    }
    if (block != nullptr) {
      *out = HostBlock(static_cast<std::byte*>(block),
                       [this, rounded](std::byte* data) { giveBack(data, rounded); });
      return {};
    }
  }
  *out = HostBlock(new (std::nothrow) std::byte[bytes], std::default_delete<std::byte[]>());
  if (*out) return {};
  return Status(Code::outOfMemory, "memory",
                std::to_string(bytes) + " bytes of host memory to stage the data",
                "Pass it in smaller parts");
}

void PinnedMemory::giveBack(void* block, size_t rounded) noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  try {
    kept_[rounded].push_back(block);
  } catch (const std::bad_alloc&) {
    cudaFreeHost(block);
    locked_ -= rounded;
  }
}

void PinnedMemory::trim() {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& [rounded, list] : kept_) {
    for (void* block : list) {
      cudaFreeHost(block);
      locked_ -= rounded;
    }
    list.clear();
  }
}

}  // namespace longspan::cuda
