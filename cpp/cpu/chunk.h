// Pieces of a run as arrays of the type arithmetic is done in, so that one kernel on float and one
// on double serve every dtype. Converted pieces live in small stack arrays that stay in the first
// cache.
#pragma once

#include "cpp/core/half.h"
#include "cpp/core/tensor_view.h"
#include "cpp/cpu/simd.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

inline constexpr int64_t kChunk = 1024;

template <class A>
struct alignas(64) Chunk {
  A data[kChunk];
};

// Whether arithmetic on `dtype` is done in double: f64, and integers, which it holds exactly.
inline bool wide(DType dtype) { return dtype == DType::f64 || !isFloating(dtype); }

// Calls f(A{}) with the type arithmetic on `dtype` is done in.
template <class F>
inline decltype(auto) withArithmetic(DType dtype, F&& f) {
  if (wide(dtype)) return f(double{});
  return f(float{});
}

template <class T, class A>
inline void widen(const T* x, int64_t step, int64_t n, A* out) {
  if (step == 1) {
    int64_t i = 0;
    if constexpr (std::is_same_v<A, float> && !std::is_integral_v<T> &&
                  !std::is_same_v<T, double>) {
      for (; i + kLanes <= n; i += kLanes) vstore(out + i, vload(x + i));
    }
    for (; i < n; ++i) out[i] = static_cast<A>(load(x[i]));
  } else if (step == 0) {
    const A value = static_cast<A>(load(x[0]));
    for (int64_t i = 0; i < n; ++i) out[i] = value;
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<A>(load(x[i * step]));
  }
}

template <class A>
[[gnu::noinline]] const A* convertChunk(const TensorView& t, int64_t at, int64_t step, int64_t n,
                                        A* scratch) {
  if constexpr (std::is_same_v<A, double>) {
    dispatchAny(t.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      widen(t.data<T>() + at, step, n, scratch);
    });
  } else if constexpr (std::is_same_v<A, float>) {
    if (t.dtype == DType::f16) {
      widen(t.data<f16>() + at, step, n, scratch);
    } else if (t.dtype == DType::bf16) {
      widen(t.data<bf16>() + at, step, n, scratch);
    } else {
      widen(t.data<float>() + at, step, n, scratch);
    }
  } else {
    widen(t.data<A>() + at, step, n, scratch);
  }
  return scratch;
}
// n <= kChunk elements of t from position `at`, `step` apart: in place where nothing is to be
// converted, else through `scratch`. A = float is for floating dtypes but f64.
template <class A>
inline const A* loadChunk(const TensorView& t, int64_t at, int64_t step, int64_t n, A* scratch) {
  if (t.dtype == dtypeOf<A>() && step == 1) return t.data<A>() + at;
  return convertChunk(t, at, step, n, scratch);
}

// Where to compute n elements that belong at position `at` of y, `step` apart; then storeChunk.
template <class A>
inline A* chunkTarget(const TensorView& y, int64_t at, A* scratch, int64_t step = 1) {
  return y.dtype == dtypeOf<A>() && step == 1 ? y.data<A>() + at : scratch;
}

template <class A>
[[gnu::noinline]] void roundChunk(const TensorView& y, int64_t at, int64_t n, const A* computed,
                                  int64_t step) {
  dispatchAny(y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* out = y.data<T>() + at;
    int64_t i = 0;
    if constexpr (std::is_same_v<A, float> && (std::is_same_v<T, f16> || std::is_same_v<T, bf16>)) {
      if (step == 1) {
        for (; i + kLanes <= n; i += kLanes) vstore(out + i, vload(computed + i));
      }
    }
    for (; i < n; ++i) {
      if constexpr (std::is_integral_v<T> && std::is_floating_point_v<A>) {
        out[i * step] = static_cast<T>(static_cast<int64_t>(computed[i]));  // wraps
      } else {
        out[i * step] = store<T>(computed[i]);
      }
    }
  });
}
template <class A>
inline void storeChunk(const TensorView& y, int64_t at, int64_t n, const A* computed,
                       int64_t step = 1) {
  if (y.dtype != dtypeOf<A>() || step != 1) roundChunk(y, at, n, computed, step);
}

// y[i] = f(x[i]) and y[i] = f(a[i], b[i]) on arrays: f is called with vf for float, with double for
// double.
template <class A, class F>
LONGSPAN_INLINE void mapArray(const A* x, A* y, int64_t n, F f) {
  if constexpr (std::is_same_v<A, float>) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) vstore(y + i, f(vload(x + i)));
    if (i < n) {
      const int rest = static_cast<int>(n - i);
      vstorePart(y + i, f(vloadPart(x + i, rest)), rest);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = f(x[i]);
  }
}
template <class A, class F>
LONGSPAN_INLINE void mapArrays(const A* a, const A* b, A* y, int64_t n, F f) {
  if constexpr (std::is_same_v<A, float>) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) vstore(y + i, f(vload(a + i), vload(b + i)));
    if (i < n) {
      const int rest = static_cast<int>(n - i);
      vstorePart(y + i, f(vloadPart(a + i, rest), vloadPart(b + i, rest)), rest);
    }
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = f(a[i], b[i]);
  }
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
