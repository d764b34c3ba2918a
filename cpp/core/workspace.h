// Scratch memory of one task.
#pragma once

#include <cstddef>

namespace longspan {

struct Workspace {
  std::byte* data = nullptr;
  size_t bytes = 0;
};

}  // namespace longspan
