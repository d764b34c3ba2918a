// Block masks from a predicate (cpp/ops/attention/block_mask.h): a block of threads per block of
// the mask, a thread per pair at a time, its stack in shared memory. A warp votes: 32 pairs that
// lie in a row of the mask are one word of its bits.
//
// The CPU refuses programs that do not fit together and blocks outside of the mask; a kernel
// cannot: here they see nothing. The package itself makes neither.
//
// Cost: per pair and step about 15 instructions and three accesses of shared memory; bytes: one per
// block, or the bits. Predicted for an H200: 8192 x 8192 pairs and ten steps in 1 ms. Right on an
// H200, not timed there.
#include "cpp/ops/attention/block_mask.h"
#include "cuda/context.h"
#include "cuda/portable.cuh"

namespace longspan::cuda {
namespace {

constexpr int kMaskThreads = 128;
constexpr size_t kStackBytes = sizeof(int32_t) * ops::kMaskDepth * kMaskThreads;

struct MaskProgram {
  const int32_t* steps;   // [length, 2]
  const int32_t* blocks;  // [count, 4], or null: all blocks of the mask
  uint8_t *states, *bits;
  int length, queries, keys, block, batch, heads, rows, columns;
};

// Of the block: batch entry, head, row, column.
struct MaskPlace {
  int batch, head, row, column;

  __device__ __forceinline__ MaskPlace(const MaskProgram& p, int64_t item) {
    if (p.blocks != nullptr) {
      const int32_t* const at = p.blocks + 4 * item;
      batch = at[0], head = at[1], row = at[2], column = at[3];
    } else {
      column = static_cast<int>(item % p.columns);
      row = static_cast<int>(item / p.columns % p.rows);
      head = static_cast<int>(item / p.columns / p.rows % p.heads);
      batch = static_cast<int>(item / p.columns / p.rows / p.heads);
    }
  }
  __device__ __forceinline__ bool inside(const MaskProgram& p) const {
    return batch >= 0 && batch < p.batch && head >= 0 && head < p.heads && row >= 0 &&
           row < p.rows && column >= 0 && column < p.columns;
  }
};

// What the program, a sound one, says of a pair.
__device__ __forceinline__ bool sees(const MaskProgram& p, const MaskPlace& at, int i, int j,
                                     int32_t* stack) {
  using Step = ops::MaskStep;
  int top = 0;
  for (int s = 0; s < p.length; ++s) {
    const auto step = static_cast<Step>(p.steps[2 * s]);
    const int taken = ops::maskOperands(step);
    int32_t value;
    if (taken == 0) {
      value = step == Step::constant ? p.steps[2 * s + 1]
              : step == Step::query  ? i
              : step == Step::key    ? j
              : step == Step::batch  ? at.batch
                                     : at.head;
    } else {
      const int32_t x = stack[(top - taken) * kMaskThreads];
      const int32_t y = taken == 2 ? stack[(top - 1) * kMaskThreads] : 0;
      value = ops::maskValue(step, x, y);
    }
    top += 1 - taken;
    stack[(top - 1) * kMaskThreads] = value;
  }
  return stack[0] != 0;
}

__global__ void __launch_bounds__(kMaskThreads)
    blockMaskKernel(const __grid_constant__ MaskProgram p) {
  LONGSPAN_SHARED(shared);
  int32_t* const stack = reinterpret_cast<int32_t*>(shared) + threadIdx.x;
  const int64_t item = blockIdx.x;
  const MaskPlace at(p, item);
  const bool sound = ops::isSoundMask(p.steps, p.length) && at.inside(p);
  const int pairs = p.block * p.block;
  bool any = false, all = true;
  for (int e = static_cast<int>(threadIdx.x); e < pairs; e += kMaskThreads) {
    const int i = at.row * p.block + e / p.block, j = at.column * p.block + e % p.block;
    const bool exists = sound && i < p.queries && j < p.keys;
    const bool seen = exists && sees(p, at, i, j, stack);
    any = any || seen;
    all = all && (seen || !exists);
    const uint32_t word = __ballot_sync(0xffffffffu, seen);
    if (p.bits != nullptr && threadIdx.x % 32 == 0) {
      reinterpret_cast<uint32_t*>(p.bits)[(item * pairs + e) / 32] = word;
    }
  }
  if (p.states == nullptr) return;
  using State = ops::MaskBlock;
  any = __syncthreads_or(any), all = __syncthreads_and(all);
  if (threadIdx.x == 0) {
    p.states[item] = static_cast<uint8_t>(!any ? State::none : all ? State::full : State::partial);
  }
}

Status blockMaskEvaluate(const ops::BlockMaskEvaluate& p, Context& context) {
  const bool listed = p.blocks.defined();
  const int64_t count = listed ? p.blocks.shape[0] : p.batch * p.heads * p.rows() * p.columns();
  if (count == 0) return {};
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  if (count > kMost || p.program.shape[0] > kMost) {
    return Status(Code::failed, "queries", std::to_string(count) + " blocks of the mask",
                  "Use larger blocks: a launch has at most 2^31 - 1 of them");
  }
  MaskProgram program{};
  program.steps = p.program.data<int32_t>();
  program.length = static_cast<int>(p.program.shape[0]);
  if (listed) {
    program.blocks = p.blocks.data<int32_t>();
    program.bits = p.bits.data<uint8_t>();
  } else {
    program.states = p.states.data<uint8_t>();
  }
  program.queries = static_cast<int>(p.queries), program.keys = static_cast<int>(p.keys);
  program.block = static_cast<int>(p.block), program.batch = static_cast<int>(p.batch);
  program.heads = static_cast<int>(p.heads), program.rows = static_cast<int>(p.rows());
  program.columns = static_cast<int>(p.columns());
  return launched(launch(blockMaskKernel, dim3(static_cast<uint32_t>(count)), dim3(kMaskThreads),
                         kStackBytes, context.stream, program));
}

LONGSPAN_CUDA_OPERATOR(BlockMaskEvaluate, blockMaskEvaluate);

}  // namespace
}  // namespace longspan::cuda
