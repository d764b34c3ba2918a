// Vectors of one number per feature, of a dtype of their own, read beside rows of another: scales
// and shifts of the norms.
#pragma once

#include "cuda/rows.cuh"

namespace longspan::cuda {

template <class T>
inline constexpr DType kDtypeOf = dtypeOf<T>();  // the GPU may read it, but not call dtypeOf

// A kernel's argument.
struct Features {
  const void* data = nullptr;  // null: absent
  DType dtype = DType::f32;
  int64_t step = 1;
  bool wide = true;  // or absent

  __host__ __device__ bool absentOr(DType other) const { return data == nullptr || dtype == other; }

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
                                               float (&to)[n], [[maybe_unused]] float fill) {
  const T* from = static_cast<const T*>(f.data);
  if constexpr (kAligned) {
    loadRunOr<T, n>(from + at, left >= n, T{}, to);
  } else {
#pragma unroll
    for (int j = 0; j < n; ++j) {
      to[j] = fill;
      if (j < left) to[j] = toFloat(from[(at + j) * f.step]);
    }
  }
}
}  // namespace detail

// Features [at, at + n) of which `left` exist, at being a multiple of n; `fill` where the vector is
// absent, anything beyond its end. kAligned: the vector, if present, is wide and n divides its
// length.
// ofRow: its dtype is known to be that of the row, T.
template <bool kAligned, class T, int n>
__device__ __forceinline__ void loadFeatures(const Features& f, int64_t at, int64_t left,
                                             float (&to)[n], float fill, bool ofRow) {
  if (f.data == nullptr) {
#pragma unroll
    for (float& x : to) x = fill;
  } else if (ofRow) {
    detail::loadFeaturesOf<kAligned, T>(f, at, left, to, fill);
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
