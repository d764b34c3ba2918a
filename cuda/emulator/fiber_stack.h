// Stacks for the threads of a kernel and the switch between them.
#pragma once

#include <cstddef>
#include <vector>

namespace longspan::emulator {

inline constexpr size_t kStackBytes = 256 * 1024;

// A suspended execution.
struct Context {
  void* state = nullptr;
};

// Saves the running execution in `from` and resumes `to`.
void switchContext(Context& from, Context& to);

// Resumes `to`; the running execution is given up.
[[noreturn]] void resumeContext(Context& to);

// Where an execution that began on `stack` is saved when it is suspended for the first time.
Context contextOn(char* stack);

// A context that calls `entry` on `stack`; `entry` never returns.
Context makeContext(char* stack, void (*entry)());

// Stacks are kept for the life of the process: the pages a kernel has touched stay mapped.
class StackPool {
 public:
  char* take();
  void give(char* stack) { free_.push_back(stack); }
  void takeBackAll();  // after a launch that was broken off

 private:
  std::vector<char*> all_, free_;
};

}  // namespace longspan::emulator
