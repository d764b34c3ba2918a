// What flows back through y = activation(x + bias): gradX = gradY * activation'(kept), and in the
// same pass its sum over the rows, the gradient of the bias.
//
// A block owns a chunk of rows and a stripe of columns: its threads lie `across` groups of columns
// and `down` the rows, each sums its rows in order in f32, the rows of threads are added as a tree,
// and a second kernel adds the chunks in order. gradY and kept are read once, gradX is written
// once: 12 bytes per f32 element, 6 in 16 bits, and 4 columns * chunks bytes twice for the sums.
// H200: 85 % of copy speed, predicted. The form before was right on an H200; this one, which
// chooses the activation once for several elements, is not yet run on hardware.
#include "cpp/ops/dense/activation_backward.h"
#include "cuda/any_element.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/pointwise.cuh"

namespace longspan::cuda {
namespace {

using ops::Activation;

template <class T>
struct ActivationGradient {
  static constexpr int kViews = 3, kLanes = kLanesOf<T>;
  struct Loaded {
    Vector<T, kLanes> grad, kept;
  };
  const T *gradY, *kept;
  T* gradX;
  Activation activation;

  __device__ __forceinline__ void load(const Walk<3, kLanes>& walk, const Place<3>& p,
                                       Loaded& l) const {
    loadGroup(walk, p, 0, gradY, l.grad);
    loadGroup(walk, p, 1, kept, l.kept);
  }
  __device__ __forceinline__ void finish(const Walk<3, kLanes>& walk, const Place<3>& p,
                                         Loaded& l) const {
    float slope[kLanes];
#pragma unroll
    for (int i = 0; i < kLanes; ++i) slope[i] = toFloat(l.kept.at[i]);
    slopes<T>(activation, slope);
#pragma unroll
    for (int i = 0; i < kLanes; ++i) {
      l.grad.at[i] = fromFloat<T>(toFloat(l.grad.at[i]) * slope[i]);
    }
    storeGroup(walk, p, 2, gradX, l.grad);
  }
};

constexpr int64_t kMostChunks = 128, kLeastRows = 32;

int64_t rowsPerChunk(const ops::ActivationBackward& p) {
  return std::max(kLeastRows, (p.rows() + kMostChunks - 1) / kMostChunks);
}
int64_t chunksOf(const ops::ActivationBackward& p) {
  return (p.rows() + rowsPerChunk(p) - 1) / rowsPerChunk(p);
}

template <class T>
struct Columns {
  static constexpr int kLanes = kLanesOf<T>;
  const T *gradY, *kept;  // kept: null for none
  T* gradX;
  float* sums;  // (chunks, columns)
  int64_t rows, columns, perChunk;
  int64_t gradStep, keptStep;  // between columns
  int across;                  // threads beside each other, a power of two
  bool vector;                 // groups are aligned in all three
  Activation activation;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    columnsKernel(const __grid_constant__ Columns<T> c, const __grid_constant__ Walk<2, 1> rowAt) {
  constexpr int kLanes = Columns<T>::kLanes;
  LONGSPAN_SHARED(shared);
  float* const shares = reinterpret_cast<float*>(shared);  // (lane, thread)
  const int x = static_cast<int>(threadIdx.x) % c.across;
  const int y = static_cast<int>(threadIdx.x) / c.across, down = kThreads / c.across;
  const int64_t column = (int64_t{blockIdx.x} * c.across + x) * kLanes;
  const bool within = column < c.columns;
  const int n = c.columns - column < kLanes ? static_cast<int>(c.columns - column) : kLanes;
  const int64_t begin = blockIdx.y * c.perChunk;
  const int64_t end = begin + c.perChunk < c.rows ? begin + c.perChunk : c.rows;
  float sum[kLanes] = {};
  for (int64_t row = begin + y; within && row < end; row += down) {
    const auto p = rowAt.place(row);
    Vector<T, kLanes> grad, kept;
    loadLanes(c.gradY + p.at[0] + column * c.gradStep, c.gradStep, n, c.vector, grad);
    float slope[kLanes];
    if (c.kept != nullptr) {
      loadLanes(c.kept + p.at[1] + column * c.keptStep, c.keptStep, n, c.vector, kept);
#pragma unroll
      for (int j = 0; j < kLanes; ++j) slope[j] = toFloat(kept.at[j]);
      slopes<T>(c.activation, slope);
    }
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      float g = toFloat(grad.at[j]);
      if (c.kept != nullptr) g *= slope[j];
      sum[j] += g;
      grad.at[j] = fromFloat<T>(g);
    }
    if (c.kept == nullptr) continue;
    storeLanes(c.gradX + row * c.columns + column, 1, n, c.vector, grad);
  }
#pragma unroll
  for (int j = 0; j < kLanes; ++j) shares[j * kThreads + threadIdx.x] = sum[j];
  for (int half = down / 2; half > 0; half /= 2) {
    __syncthreads();
    if (y >= half) continue;
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      sum[j] += shares[j * kThreads + threadIdx.x + half * c.across];
      shares[j * kThreads + threadIdx.x] = sum[j];
    }
  }
  if (within && y == 0) {
#pragma unroll
    for (int j = 0; j < kLanes; ++j) {
      if (j < n) c.sums[blockIdx.y * c.columns + column + j] = sum[j];
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    addChunksKernel(const float* sums, const __grid_constant__ AnyElements gradBias, int64_t chunks,
                    int64_t columns) {
  for (int64_t column = gridThread(); column < columns; column += gridThreads()) {
    float total = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) total += sums[chunk * columns + column];
    gradBias.store(column, total);
  }
}

template <class T>
Status sumColumns(const ops::ActivationBackward& p, Context& context) {
  const int64_t columns = p.columns(), chunks = chunksOf(p);
  auto* sums = reinterpret_cast<float*>(context.workspace.data);
  const bool activated = p.gradX.defined();
  if (columns > 0 && chunks > 0) {
    TensorView gradRows = p.gradY, keptRows = activated ? p.kept : p.gradY;
    gradRows.rank = keptRows.rank = static_cast<int8_t>(p.gradY.rank - 1);
    const Walk<2, 1> rowAt({&gradRows, &keptRows});
    constexpr int kLanes = Columns<T>::kLanes;
    Columns<T> c{p.gradY.data<T>(),
                 activated ? p.kept.data<T>() : nullptr,
                 activated ? p.gradX.data<T>() : nullptr,
                 sums,
                 p.rows(),
                 columns,
                 rowsPerChunk(p),
                 p.gradY.strideOf(-1),
                 activated ? p.kept.strideOf(-1) : 1,
                 1,
                 columns % kLanes == 0,
                 p.activation};
    const auto aligned = [](const void* address) {
      return reinterpret_cast<uintptr_t>(address) % (kLanes * sizeof(T)) == 0;
    };
    c.vector = c.vector && c.gradStep == 1 && c.keptStep == 1 && aligned(c.gradY) &&
               aligned(c.kept) && aligned(c.gradX);
    for (int i = 0; i <= rowAt.outer; ++i) {
      for (int n = 0; n < 2; ++n) c.vector = c.vector && rowAt.stride[n][i] % kLanes == 0;
    }
    const int64_t groups = (columns + kLanes - 1) / kLanes;
    while (c.across < 32 && c.across < groups) c.across *= 2;
    const dim3 grid(static_cast<uint32_t>((groups + c.across - 1) / c.across),
                    static_cast<uint32_t>(chunks));
    LONGSPAN_RETURN_IF_ERROR(
        launched(launch(columnsKernel<T>, grid, dim3(kThreads), kLanes * kThreads * sizeof(float),
                        context.stream, c, rowAt)));
  }
  if (columns == 0) return {};
  return launched(launch(addChunksKernel, dim3(blocksFor(columns, context.gpu)), dim3(kThreads), 0,
                         context.stream, sums, AnyElements(p.gradBias), chunks, columns));
}

size_t activationBackwardWorkspace(const ops::ActivationBackward& p, const Gpu&) {
  return p.wantBias ? static_cast<size_t>(chunksOf(p) * p.columns()) * sizeof(float) : 0;
}

}  // namespace

Status activationBackward(const ops::ActivationBackward& p, Context& context) {
  return dispatchNarrow(p.gradY.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (p.wantBias) return sumColumns<T>(p, context);
    if (!p.gradX.defined()) return Status();
    return elementwise<1>(
        ActivationGradient<T>{p.gradY.data<T>(), p.kept.data<T>(), p.gradX.data<T>(), p.activation},
        {&p.gradY, &p.kept, &p.gradX}, context);
  });
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(ActivationBackward, activationBackward,
                                      activationBackwardWorkspace);

}  // namespace longspan::cuda
