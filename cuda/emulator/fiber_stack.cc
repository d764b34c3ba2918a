#include "cuda/emulator/fiber_stack.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

// The portable form costs a system call per switch.
#if defined(__x86_64__) && !defined(LONGSPAN_EMULATOR_UCONTEXT)
#define LONGSPAN_OWN_SWITCH 1
#else
#define LONGSPAN_OWN_SWITCH 0
#include <ucontext.h>
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LONGSPAN_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(LONGSPAN_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(memory, bytes)
#endif

namespace longspan::emulator {

char* StackPool::take() {
  if (free_.empty()) {
    void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      std::fprintf(stderr, "longspan emulator: no memory for another thread's stack\n");
      std::abort();
    }
    mprotect(memory, static_cast<size_t>(getpagesize()), PROT_NONE);  // an overflow must not spread
    all_.push_back(static_cast<char*>(memory));
    free_.push_back(all_.back());
  }
  char* stack = free_.back();
  free_.pop_back();
  // Frames that were given up on it never removed their red zones.
  ASAN_UNPOISON_MEMORY_REGION(stack, kStackBytes);
  return stack;
}

void StackPool::takeBackAll() { free_ = all_; }

#if LONGSPAN_OWN_SWITCH

// Callee-saved registers only: to the compiler this is an ordinary call.
extern "C" void longspanSwitchStack(void** save, void* load);
asm(R"(
.text
.hidden longspanSwitchStack
.globl longspanSwitchStack
.type longspanSwitchStack, @function
longspanSwitchStack:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size longspanSwitchStack, .-longspanSwitchStack
)");

void switchContext(Context& from, Context& to) { longspanSwitchStack(&from.state, to.state); }

void resumeContext(Context& to) {
  Context abandoned;
  switchContext(abandoned, to);
  __builtin_unreachable();
}

Context contextOn(char*) { return {}; }

Context makeContext(char* stack, void (*entry)()) {
  // Tops differ by a few cache lines: at equal offsets all stacks would share one set of the cache.
  const size_t colour = (reinterpret_cast<uintptr_t>(stack) / kStackBytes % 32) * 192;
  void** top = reinterpret_cast<void**>(stack + kStackBytes - 64 - colour);
  *--top = nullptr;  // where a caller would be
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  return {top};
}

#else

// A context lives at the top of its own stack; the host's, which has none of ours, in a static
// object: the machine's lock admits one host thread at a time.
namespace {
constexpr size_t kSlot = 4096;
ucontext_t hostContext;
ucontext_t* slotOf(char* stack) {
  static_assert(sizeof(ucontext_t) <= kSlot);
  return reinterpret_cast<ucontext_t*>(stack + kStackBytes - kSlot);
}
}  // namespace

void switchContext(Context& from, Context& to) {
  if (from.state == nullptr) from.state = &hostContext;
  swapcontext(static_cast<ucontext_t*>(from.state), static_cast<ucontext_t*>(to.state));
}

void resumeContext(Context& to) {
  setcontext(static_cast<ucontext_t*>(to.state));
  std::abort();
}

Context contextOn(char* stack) { return {slotOf(stack)}; }

Context makeContext(char* stack, void (*entry)()) {
  ucontext_t* context = slotOf(stack);
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = kStackBytes - kSlot;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return {context};
}

#endif

}  // namespace longspan::emulator
