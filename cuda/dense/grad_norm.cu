// gradNorm and clipCoefficient, in f64 as on the CPU, so that squares neither overflow nor vanish.
// Each piece of 16384 elements is a block's, which leaves a sum of squares and a largest magnitude;
// one block adds them in order. Reads every gradient once; 3 FLOPs per element, 2 of them in f64:
// on GPUs with few f64 units these, not memory, are the limit. H200: 85 % of copy speed. Right on
// an H200, not timed there.
#include <cmath>

#include "cpp/ops/dense/optimizer.h"
#include "cuda/tensor_pieces.cuh"

namespace longspan::cuda {
namespace {

struct Partial {
  double squares, most;

  __device__ __forceinline__ void add(double s, double m) {
    squares += s;
    most = m > most ? m : most;
  }
};

// The block's sum in thread 0, added as a tree.
__device__ __forceinline__ Partial sumBlock(Partial own, double* shared) {
  double* const squares = shared;
  double* const most = shared + kThreads;
  squares[threadIdx.x] = own.squares;
  most[threadIdx.x] = own.most;
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    own.add(squares[threadIdx.x + half], most[threadIdx.x + half]);
    squares[threadIdx.x] = own.squares;
    most[threadIdx.x] = own.most;
  }
  return own;
}

__device__ __forceinline__ void addElements(Partial& own, const float (&x)[kSlotLanes]) {
#pragma unroll
  for (int k = 0; k < kSlotLanes; ++k) {
    const auto wide = static_cast<double>(x[k]);
    own.add(wide * wide, static_cast<double>(fabsf(x[k])));
  }
}

__global__ void __launch_bounds__(kThreads)
    squaresPackKernel(const __grid_constant__ Pack<1> pack, Partial* partial) {
  LONGSPAN_SHARED(shared);
  const auto piece = pieceOf(pack, static_cast<int32_t>(blockIdx.x));
  Partial own{0, 0};
  for (int64_t i = threadIdx.x * kSlotLanes; i < piece.count; i += kThreads * kSlotLanes) {
    const int64_t left = piece.count - i;
    float x[kSlotLanes];
    loadSlot(piece.slot[0], piece.first + i,
             left < kSlotLanes ? static_cast<int>(left) : kSlotLanes, x);
    addElements(own, x);
  }
  own = sumBlock(own, reinterpret_cast<double*>(shared));
  if (threadIdx.x == 0) partial[blockIdx.x] = own;
}

__global__ void __launch_bounds__(kThreads)
    squaresStridedKernel(Slot slot, const __grid_constant__ Walk<1, 1> walk, Partial* partial) {
  LONGSPAN_SHARED(shared);
  const int64_t first = blockIdx.x * ops::kOptimizerPiece;
  const int64_t end =
      first + ops::kOptimizerPiece < walk.groups ? first + ops::kOptimizerPiece : walk.groups;
  Partial own{0, 0};
  for (int64_t i = first + threadIdx.x; i < end; i += kThreads) {
    float x[kSlotLanes];
    loadSlot(slot, walk.place(i).at[0], 1, x);
    addElements(own, x);
  }
  own = sumBlock(own, reinterpret_cast<double*>(shared));
  if (threadIdx.x == 0) partial[blockIdx.x] = own;
}

__global__ void __launch_bounds__(kThreads)
    normKernel(const Partial* partial, int64_t pieces, Slot scale, bool largest, float* norm,
               float* nonFinite) {
  LONGSPAN_SHARED(shared);
  Partial own{0, 0};
  for (int64_t i = threadIdx.x; i < pieces; i += kThreads) {
    own.add(partial[i].squares, partial[i].most);
  }
  own = sumBlock(own, reinterpret_cast<double*>(shared));
  if (threadIdx.x != 0) return;
  // A maximum passes over NaN; the sum of squares does not.
  const bool finite = own.squares <= 1.7976931348623157e308;
  const bool isNan = own.squares != own.squares;
  const double value = isNan ? own.squares : largest ? own.most : sqrt(own.squares);
  *norm = static_cast<float>(value * fabs(numberOf(scale, 1)));
  *nonFinite = finite ? 0.f : 1.f;
}

__global__ void clipKernel(Slot norm, Slot scale, double maxNorm, float* coefficient) {
  const double ratio = maxNorm / (numberOf(norm, 0) + 1e-6);
  *coefficient = static_cast<float>((ratio > 1 ? 1 : ratio) * numberOf(scale, 1));
}

size_t gradNormWorkspace(const ops::GradNorm& p, const Gpu&) {
  return sizeof(Partial) * static_cast<size_t>(ops::optimizerPieces(p.tensors));
}

}  // namespace

Status gradNorm(const ops::GradNorm& p, Context& context) {
  auto* const partial = reinterpret_cast<Partial*>(context.workspace.data);
  constexpr size_t kShared = 2 * kThreads * sizeof(double);
  int64_t pieces = 0;
  LONGSPAN_RETURN_IF_ERROR(forPacks<1>(
      {&p.tensors},
      [&](const Pack<1>& pack, uint32_t count) {
        Partial* const own = partial + pieces;
        pieces += count;
        return launched(launch(squaresPackKernel, dim3(count), dim3(kThreads), kShared,
                               context.stream, pack, own));
      },
      [&](size_t i) {
        const Walk<1, 1> walk({&p.tensors[i]});
        const int64_t count = (walk.groups + ops::kOptimizerPiece - 1) / ops::kOptimizerPiece;
        Partial* const own = partial + pieces;
        pieces += count;
        return launched(launch(squaresStridedKernel, dim3(static_cast<uint32_t>(count)),
                               dim3(kThreads), kShared, context.stream, slotOf(p.tensors[i]), walk,
                               own));
      }));
  return launched(launch(normKernel, dim3(1), dim3(kThreads), kShared, context.stream, partial,
                         pieces, optionalSlot(p.scale), p.largest, p.norm.data<float>(),
                         p.nonFinite.data<float>()));
}

Status clipCoefficient(const ops::ClipCoefficient& p, Context& context) {
  return launched(launch(clipKernel, dim3(1), dim3(1), 0, context.stream, slotOf(p.norm),
                         optionalSlot(p.scale), p.maxNorm, p.coefficient.data<float>()));
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(GradNorm, gradNorm, gradNormWorkspace);
LONGSPAN_CUDA_OPERATOR(ClipCoefficient, clipCoefficient);

}  // namespace longspan::cuda
