// Random fills, equal to the CPU's to the last bit: only correctly rounded operations in the order
// of cpp/cpu/dense/random.simd.cc, none of them fused. One write of the output, 40 integer
// multiplications per 4 elements, for normal numbers 60 more FLOPs. A kernel per distribution, the
// type of y is a branch. H200: uniform 85 % of write speed in f32 and 50 % in 16 bits, normal about
// 40 %. Right on an H200, not timed there.
#include "cpp/ops/dense/random.h"
#include "cuda/any_element.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/philox_words.cuh"

namespace longspan::cuda {
namespace {

__device__ __forceinline__ float product(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ float sum(float a, float b) { return __fadd_rn(a, b); }

// a q + b
__device__ __forceinline__ float horner(float a, float q, float b) { return sum(product(a, q), b); }

// ln(k / 2^24) for 1 <= k <= 2^24: 2 atanh((m - 1) / (m + 1)) with m in [0.70, 1.42).
__device__ __forceinline__ float logOfUniform(uint32_t k) {
  const uint32_t bits = __float_as_uint(static_cast<float>(k)) + (0x3f800000u - 0x3f3504f3u);
  const float exponent = static_cast<float>(static_cast<int32_t>(bits >> 23) - 127 - 24);
  const float m = __uint_as_float((bits & 0x007fffffu) + 0x3f3504f3u);
  const float s = __fdiv_rn(sum(m, -1.0f), sum(m, 1.0f));
  const float q = product(s, s);
  float series = horner(q, 1.0f / 9, 1.0f / 7);
  series = horner(series, q, 1.0f / 5);
  series = horner(series, q, 1.0f / 3);
  series = product(series, q);
  const float twice = product(2.0f, s);
  return sum(product(exponent, 0.693147180559945309f), sum(twice, product(twice, series)));
}

// Box and Muller 1958: two uniforms give two normal numbers. The largest magnitude is 5.77.
__device__ __forceinline__ void boxMuller(uint32_t first, uint32_t second, float& z0, float& z1) {
  const float radius = __fsqrt_rn(product(-2.0f, logOfUniform((first >> 8) + 1)));
  // A turn is cut into quarters centred on the axes: |x| <= pi / 4.
  const uint32_t turn = second >> 8;
  const uint32_t quarter = (turn + (1u << 21)) >> 22;
  const auto rest =
      static_cast<float>(static_cast<int32_t>(turn) - static_cast<int32_t>(quarter << 22));
  const float x = product(rest, 1.57079632679489662f * 0x1p-22f);
  const float q = product(x, x);
  float s = sum(product(q, 1.0f / 362880), -(1.0f / 5040));
  s = horner(s, q, 1.0f / 120);
  s = horner(s, q, -(1.0f / 6));
  s = sum(x, product(x, product(q, s)));
  float c = horner(q, -1.0f / 3628800, 1.0f / 40320);
  c = horner(c, q, -(1.0f / 720));
  c = horner(c, q, 1.0f / 24);
  c = horner(c, q, -0.5f);
  c = sum(1.0f, product(q, c));
  const bool swap = (quarter & 1u) != 0;
  const float cosine = swap ? -s : c, sine = swap ? c : s;
  const float sign = (quarter & 2u) != 0 ? -radius : radius;
  z0 = product(sign, cosine);
  z1 = product(sign, sine);
}

// A group of y made from a Philox block by `Maker`; y may have any type.
template <class Maker>
struct Draw {
  static constexpr int kViews = 1, kLanes = 4;
  struct Loaded {};
  const int32_t* state;
  AnyElements y;
  Maker make;

  __device__ __forceinline__ void load(const Walk<1, kLanes>&, const Place<1>&, Loaded&) const {}
  __device__ __forceinline__ void finish(const Walk<1, kLanes>& walk, const Place<1>& p,
                                         Loaded&) const {
    uint32_t words[kLanes];
    philoxWords(loadPhilox(state), p.index, words);
    typename Maker::Value made[kLanes];
    make(words, made);
    const auto store = [&](auto tag) {
      using T = typename decltype(tag)::type;
      Vector<T, kLanes> out;
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        if constexpr (std::is_same_v<T, typename Maker::Value>) {
          out.at[i] = made[i];
        } else {
          out.at[i] = fromFloat<T>(made[i]);
        }
      }
      storeGroup(walk, p, 0, static_cast<T*>(y.data), out);
    };
    if constexpr (std::is_integral_v<typename Maker::Value>) {
      store(Tag<int32_t>{});
    } else {
      dispatchStored(y.dtype, store);
    }
  }
};

struct MakeUniform {
  using Value = float;
  float low, range;
  template <int n>
  __device__ __forceinline__ void operator()(const uint32_t (&words)[n], float (&out)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) out[i] = sum(low, product(range, toUniform(words[i])));
  }
};

struct MakeNormal {
  using Value = float;
  float mean, std;
  template <int n>
  __device__ __forceinline__ void operator()(const uint32_t (&words)[n], float (&out)[n]) const {
#pragma unroll
    for (int i = 0; i < n; i += 2) {
      float z0, z1;
      boxMuller(words[i], words[i + 1], z0, z1);
      out[i] = sum(mean, product(std, z0));
      out[i + 1] = sum(mean, product(std, z1));
    }
  }
};

struct MakeChoice {
  using Value = float;
  uint32_t threshold;
  template <int n>
  __device__ __forceinline__ void operator()(const uint32_t (&words)[n], float (&out)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) out[i] = words[i] >> 8 < threshold ? 1.0f : 0.0f;
  }
};

struct MakeInteger {
  using Value = int32_t;
  int64_t low;
  uint64_t range;
  template <int n>
  __device__ __forceinline__ void operator()(const uint32_t (&words)[n], int32_t (&out)[n]) const {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      out[i] = static_cast<int32_t>(low + static_cast<int64_t>(words[i] * range >> 32));
    }
  }
};

template <class Maker>
Status draw(const TensorView& state, const TensorView& y, const Maker& make, Context& context) {
  return elementwise<1>(Draw<Maker>{state.data<int32_t>(), AnyElements(y), make}, {&y}, context);
}

}  // namespace

Status uniform(const ops::Uniform& p, Context& context) {
  const MakeUniform make{static_cast<float>(p.low), static_cast<float>(p.high - p.low)};
  return draw(p.state, p.y, make, context);
}

Status normal(const ops::Normal& p, Context& context) {
  const MakeNormal make{static_cast<float>(p.mean), static_cast<float>(p.std)};
  return draw(p.state, p.y, make, context);
}

Status bernoulli(const ops::Bernoulli& p, Context& context) {
  return draw(p.state, p.y, MakeChoice{ops::probabilityThreshold(p.p)}, context);
}

Status randint(const ops::RandInt& p, Context& context) {
  const MakeInteger make{p.low, static_cast<uint64_t>(p.high - p.low)};
  return draw(p.state, p.y, make, context);
}

LONGSPAN_CUDA_OPERATOR(Uniform, uniform);
LONGSPAN_CUDA_OPERATOR(Normal, normal);
LONGSPAN_CUDA_OPERATOR(Bernoulli, bernoulli);
LONGSPAN_CUDA_OPERATOR(RandInt, randint);

}  // namespace longspan::cuda
