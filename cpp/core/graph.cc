#include "cpp/core/graph.h"

#include <algorithm>

namespace longspan {

void Graph::note(const BufferRef& buffer, bool isWritten, bool hold) {
  if (hold && std::find(held.begin(), held.end(), buffer) == held.end()) held.push_back(buffer);
  const auto same = [&](const std::weak_ptr<Buffer>& other) { return other.lock() == buffer; };
  if (isWritten && std::find_if(writes.begin(), writes.end(), same) == writes.end()) {
    writes.push_back(buffer);
  }
}

}  // namespace longspan
