// Optimizer updates: the tensors of all parameters are packed into kernel arguments, 32 per launch
// for Adam, and cut into pieces of 16384 elements, a block each (see tensor_pieces.cuh). One thread
// first turns learning rate and step count into the factors that all of them use, in f64 as on the
// CPU, and advances the count; everything that changes between steps is thus read on the device.
//
// Cost per element in f32: Adam reads 4 and writes 3 numbers, 28 bytes; SGD with momentum 20,
// scaling 8. H200: 85 % of copy speed; 124 M parameters with f32 states, 3.5 GB, in 0.95 ms. Right
// on an H200; times: bench/results/nvidia-h200.json.
#include <cmath>

#include "cpp/ops/dense/optimizer.h"
#include "cuda/tensor_pieces.cuh"

namespace longspan::cuda {
namespace {

// What one thread works out for all.
struct Factors {
  int32_t skip, first;
  float scale, shrink, decay, rate, unroot;
};

struct Schedule {
  Slot lr, gradScale, skip;
  int32_t* step;
  Factors* factors;
  double beta1, beta2, weightDecay;
  bool adam, decoupled;
};

__global__ void scheduleKernel(const Schedule s) {
  Factors f{};
  f.skip = numberOf(s.skip, 0) != 0;
  if (f.skip == 0) {
    const int32_t t = ++*s.step;
    const double lr = numberOf(s.lr, 0);
    f.first = t == 1;
    f.scale = static_cast<float>(numberOf(s.gradScale, 1));
    f.shrink = static_cast<float>(s.decoupled ? 1 - lr * s.weightDecay : 1);
    f.decay = static_cast<float>(s.decoupled ? 0 : s.weightDecay);
    f.rate = static_cast<float>(s.adam ? lr / (1 - pow(s.beta1, static_cast<double>(t))) : lr);
    f.unroot = static_cast<float>(1 / sqrt(1 - pow(s.beta2, static_cast<double>(t))));
  }
  *s.factors = f;
}

constexpr uint32_t bit(int list, bool present = true) { return present ? 1u << list : 0; }

struct Adam {
  enum { kParam, kGrad, kMean, kSquare, kMaximum, kMaster, kLists };
  uint32_t reads, writes;
  const Factors* factors;
  float beta1, rest1, beta2, rest2, eps;
  bool maxima, masters;
  Factors f;

  __device__ __forceinline__ bool begin() {
    f = *factors;
    return f.skip == 0;
  }
  __device__ __forceinline__ void operator()(float (&v)[kLists][kSlotLanes]) const {
#pragma unroll
    for (int i = 0; i < kSlotLanes; ++i) {
      const float x = masters ? v[kMaster][i] : v[kParam][i];
      const float g = v[kGrad][i] * f.scale + x * f.decay;
      v[kMean][i] = v[kMean][i] * beta1 + g * rest1;
      v[kSquare][i] = v[kSquare][i] * beta2 + g * g * rest2;
      float square = v[kSquare][i];
      if (maxima) square = v[kMaximum][i] = v[kMaximum][i] > square ? v[kMaximum][i] : square;
      v[kParam][i] = v[kMaster][i] =
          x * f.shrink - f.rate * v[kMean][i] / (sqrtf(square) * f.unroot + eps);
    }
  }
};

struct Sgd {
  enum { kParam, kGrad, kBuffer, kMaster, kLists };
  uint32_t reads, writes;
  const Factors* factors;
  float momentum, fresh;
  bool buffers, nesterov, masters;
  Factors f;

  __device__ __forceinline__ bool begin() {
    f = *factors;
    if (f.first != 0)
      reads &= ~(1u << kBuffer);  // what it holds before the first step means nothing
    return f.skip == 0;
  }
  __device__ __forceinline__ void operator()(float (&v)[kLists][kSlotLanes]) const {
#pragma unroll
    for (int i = 0; i < kSlotLanes; ++i) {
      const float x = masters ? v[kMaster][i] : v[kParam][i];
      float g = v[kGrad][i] * f.scale + x * f.decay;
      if (buffers) {
        const float b = f.first != 0 ? g : v[kBuffer][i] * momentum + g * fresh;
        v[kBuffer][i] = b;
        g = nesterov ? g + b * momentum : b;
      }
      v[kParam][i] = v[kMaster][i] = x - g * f.rate;
    }
  }
};

// Times a factor from the device, or into [-limit, limit].
struct Adjust {
  static constexpr int kLists = 1;
  uint32_t reads, writes;
  Slot factor;  // null: clamp
  float limit, by;

  __device__ __forceinline__ bool begin() {
    if (factor.data != nullptr) by = static_cast<float>(numberOf(factor, 1));
    return true;
  }
  __device__ __forceinline__ void operator()(float (&v)[kLists][kSlotLanes]) const {
#pragma unroll
    for (int i = 0; i < kSlotLanes; ++i) {
      const float x = v[0][i];
      v[0][i] = factor.data != nullptr ? x * by : x > limit ? limit : x < -limit ? -limit : x;
    }
  }
};

size_t factorsOf(const ops::AdamStep&, const Gpu&) { return sizeof(Factors); }
size_t factorsOf(const ops::SgdStep&, const Gpu&) { return sizeof(Factors); }

Factors* factorsIn(const Context& context) {
  return reinterpret_cast<Factors*>(context.workspace.data);
}

template <class P>
Status schedule(const P& p, Schedule s, Context& context) {
  s.lr = slotOf(p.lr);
  s.gradScale = optionalSlot(p.gradScale);
  s.skip = optionalSlot(p.skip);
  s.step = p.step.template data<int32_t>();
  s.factors = factorsIn(context);
  s.weightDecay = p.weightDecay;
  return launched(launch(scheduleKernel, dim3(1), dim3(1), 0, context.stream, s));
}

}  // namespace

Status adamStep(const ops::AdamStep& p, Context& context) {
  Schedule s{};
  s.adam = true;
  s.beta1 = p.beta1;
  s.beta2 = p.beta2;
  s.decoupled = p.decoupled;
  LONGSPAN_RETURN_IF_ERROR(schedule(p, s, context));
  const bool maxima = !p.maxSquares.empty(), masters = !p.masters.empty();
  const uint32_t states = bit(Adam::kMean) | bit(Adam::kSquare) | bit(Adam::kMaximum, maxima);
  Adam adam{};
  adam.reads = states | bit(Adam::kGrad) | bit(masters ? Adam::kMaster : Adam::kParam);
  adam.writes = states | bit(Adam::kParam) | bit(Adam::kMaster, masters);
  adam.factors = factorsIn(context);
  adam.beta1 = static_cast<float>(p.beta1);
  adam.rest1 = static_cast<float>(1 - p.beta1);
  adam.beta2 = static_cast<float>(p.beta2);
  adam.rest2 = static_cast<float>(1 - p.beta2);
  adam.eps = static_cast<float>(p.eps);
  adam.maxima = maxima;
  adam.masters = masters;
  return updateTensors(adam, {&p.params, &p.grads, &p.means, &p.squares, &p.maxSquares, &p.masters},
                       context);
}

Status sgdStep(const ops::SgdStep& p, Context& context) {
  LONGSPAN_RETURN_IF_ERROR(schedule(p, Schedule{}, context));
  const bool buffers = !p.buffers.empty(), masters = !p.masters.empty();
  Sgd sgd{};
  sgd.reads =
      bit(Sgd::kGrad) | bit(Sgd::kBuffer, buffers) | bit(masters ? Sgd::kMaster : Sgd::kParam);
  sgd.writes = bit(Sgd::kParam) | bit(Sgd::kBuffer, buffers) | bit(Sgd::kMaster, masters);
  sgd.factors = factorsIn(context);
  sgd.momentum = static_cast<float>(p.momentum);
  sgd.fresh = static_cast<float>(1 - p.dampening);
  sgd.buffers = buffers;
  sgd.nesterov = p.nesterov;
  sgd.masters = masters;
  return updateTensors(sgd, {&p.params, &p.grads, &p.buffers, &p.masters}, context);
}

Status scaleTensors(const ops::ScaleTensors& p, Context& context) {
  return updateTensors(Adjust{1, 1, slotOf(p.factor), 0, 0}, {&p.tensors}, context);
}

Status clampTensors(const ops::ClampTensors& p, Context& context) {
  return updateTensors(Adjust{1, 1, Slot{}, static_cast<float>(p.limit), 0}, {&p.tensors}, context);
}

LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(AdamStep, adamStep, factorsOf);
LONGSPAN_CUDA_OPERATOR_WITH_WORKSPACE(SgdStep, sgdStep, factorsOf);
LONGSPAN_CUDA_OPERATOR(ScaleTensors, scaleTensors);
LONGSPAN_CUDA_OPERATOR(ClampTensors, clampTensors);

}  // namespace longspan::cuda
