// Page-locked host memory, which the GPU's copy engine reads and writes by itself. Locking pages is
// slow, so blocks are kept, up to a limit; beyond it ordinary memory serves and the driver stages.
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "cpp/core/lane.h"

namespace longspan::cuda {

class PinnedMemory {
 public:
  // Bytes locked at most, in use and kept.
  static constexpr size_t kLimit = size_t{512} << 20;

  // The block goes back when its last reference goes, on any thread.
  Status take(size_t bytes, HostBlock* out);
  // Unlocks what is kept.
  void trim();

 private:
  void giveBack(void* block, size_t rounded) noexcept;

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> kept_;  // by rounded size
  size_t locked_ = 0;
};

}  // namespace longspan::cuda
