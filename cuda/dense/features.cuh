// Vectors of one number per feature, of a dtype of their own, read beside rows of another: scales
// and shifts of the norms.
#pragma once

#include "cuda/rows.cuh"

namespace longspan::cuda {

// A kernel's argument.
struct Features {
  const void* data = nullptr;  // null: absent
  DType dtype = DType::f32;
  int64_t step = 1;
  bool wide = true;  // or absent

  Features() = default;
  explicit Features(const TensorView& t) {
    if (!t.defined()) return;
    data = addressOf<void>(t);
    dtype = t.dtype;
    step = t.stride[0];
    wide = step == 1 && aligned16(data);
  }
};

namespace detail {
template <bool kAligned, class T, int n>
__device__ __forceinline__ void loadFeaturesOf(const Features& f, int64_t at, int64_t left,
                                               float (&to)[n], float fill) {
  const T* from = static_cast<const T*>(f.data);
  if constexpr (kAligned) {
    if (left >= n) return loadRun<T, n>(from + at, to);
  }
#pragma unroll
  for (int j = 0; j < n; ++j) {
    to[j] = fill;
    if constexpr (!kAligned) {
      if (j < left) to[j] = toFloat(from[(at + j) * f.step]);
    }
  }
}
}  // namespace detail

// Features [at, at + n) of which `left` exist, at being a multiple of n; `fill` for the others and
// where the vector is absent. kAligned: the vector, if present, is wide and n divides its length.
template <bool kAligned, int n>
__device__ __forceinline__ void loadFeatures(const Features& f, int64_t at, int64_t left,
                                             float (&to)[n], float fill) {
  if (f.data == nullptr) {
#pragma unroll
    for (float& x : to) x = fill;
  } else if (f.dtype == DType::f32) {
    detail::loadFeaturesOf<kAligned, float>(f, at, left, to, fill);
  } else if (f.dtype == DType::f16) {
    detail::loadFeaturesOf<kAligned, f16>(f, at, left, to, fill);
  } else {
    detail::loadFeaturesOf<kAligned, bf16>(f, at, left, to, fill);
  }
}

__device__ __forceinline__ void storeAs(void* to, DType dtype, int64_t at, float x) {
  if (dtype == DType::f32) {
    static_cast<float*>(to)[at] = x;
  } else if (dtype == DType::f16) {
    static_cast<f16*>(to)[at] = fromFloat<f16>(x);
  } else {
    static_cast<bf16*>(to)[at] = fromFloat<bf16>(x);
  }
}

}  // namespace longspan::cuda
