// advanceGenerator: one thread. permutation: places in the order of (word i, i), a stable sort of
// the words: 4 passes of 8 bits, 20 bytes per element each. H200: about 1 ms for 16 M. Right on an
// H200, not timed there.
#include "cpp/ops/dense/random.h"
#include "cuda/dense/radix_sort.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/philox_words.cuh"

namespace longspan::cuda {
namespace {

__global__ void advanceKernel(int32_t* state, int32_t* used, uint64_t blocks) {
  PhiloxState s = loadPhilox(state);
  storePhilox(used, s);
  s.offset += blocks;
  storePhilox(state, s);
}

__global__ void __launch_bounds__(kThreads)
    drawKeysKernel(const int32_t* state, uint32_t* keys, int32_t* positions, int64_t n) {
  const PhiloxState s = loadPhilox(state);
  for (int64_t first = 4 * gridThread(); first < n; first += 4 * gridThreads()) {
    uint32_t words[4];
    philoxWords(s, first, words);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (first + k < n) {
        keys[first + k] = words[k];
        positions[first + k] = static_cast<int32_t>(first + k);
      }
    }
  }
}

size_t permutationWorkspace(const ops::Permutation& p, const Gpu&) { return sortBytes(p.n); }

}  // namespace

Status advanceGenerator(const ops::AdvanceGenerator& p, Context& context) {
  return launched(launch(advanceKernel, dim3(1), dim3(1), 0, context.stream,
                         p.state.data<int32_t>(), p.used.data<int32_t>(),
                         static_cast<uint64_t>(p.blocks)));
}

Status permutation(const ops::Permutation& p, Context& context) {
  if (p.n == 0) return {};
  SortBuffers buffers = sortBuffers(context.workspace.data, p.n);
  constexpr int kBits = 32;
  buffers.positions[sortHalf(kBits)] = p.y.data<int32_t>();  // the last pass writes the result
  LONGSPAN_RETURN_IF_ERROR(launched(
      launch(drawKeysKernel, dim3(blocksFor((p.n + 3) / 4, context.gpu)), dim3(kThreads), 0,
             context.stream, p.state.data<int32_t>(), buffers.keys[0], buffers.positions[0], p.n)));
  return sortByKey(buffers, p.n, kBits, context);
}

LONGSPAN_CUDA_OPERATOR(AdvanceGenerator, advanceGenerator);
LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(Permutation, permutation, permutationWorkspace);

}  // namespace longspan::cuda
