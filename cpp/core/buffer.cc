#include "cpp/core/buffer.h"

#include <algorithm>
#include <mutex>

namespace longspan {

void Buffer::addUser(const std::shared_ptr<Lane>& lane) {
  static std::mutex mutex;  // streams that share a tensor are few
  std::lock_guard<std::mutex> lock(mutex);
  if (std::find(users_.begin(), users_.end(), lane) == users_.end()) users_.push_back(lane);
}

}  // namespace longspan
