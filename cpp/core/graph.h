// A recorded run of tasks that can be run again, over the same memory: on a GPU one launch of a
// CUDA graph, on the CPU the same kernels once more. Whatever changes from run to run is read from
// device tensors.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "cpp/core/buffer.h"
#include "cpp/core/workspace.h"

namespace longspan {

struct Graph {
  struct Step {
    const char* name;
    size_t workspaceBytes;
    std::function<Status(Workspace)> run;
    std::shared_ptr<const void> parameters;  // of run
  };

  // Kept for as long as the graph: everything it uses that was there before, and on the CPU what it
  // made. A GPU's graph has memory of its own, which its lane reuses inside the recording.
  std::vector<BufferRef> held;
  // What it writes, where somebody still holds it: a failing run poisons these.
  std::vector<std::weak_ptr<Buffer>> writes;
  std::vector<Step> steps;                // on the CPU
  std::shared_ptr<LaneGraph> launchable;  // on a GPU
  Status failure;                         // of the first task that could not be recorded

  void note(const BufferRef& buffer, bool writes, bool hold);
};

}  // namespace longspan
