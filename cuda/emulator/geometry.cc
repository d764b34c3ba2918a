#include "cuda/emulator/access.h"
#include "cuda/emulator/instructions.h"

namespace longspan::emulator {

uint3 threadIndex() { return running->thread; }
uint3 blockIndex() { return running->block->index; }
dim3 blockSize() { return machine().request.block; }
dim3 gridSize() { return machine().request.grid; }
void* sharedMemory() { return running->block->shared(); }

uint32_t sharedAddress(const void* pointer) {
  return static_cast<uint32_t>(
      sharedOffset(pointer, "shared address", __builtin_return_address(0)));
}

void trap() { fatalAt("TRAP: the kernel gave up", __builtin_return_address(0)); }

}  // namespace longspan::emulator
