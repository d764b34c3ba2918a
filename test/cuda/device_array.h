// What the kernel programs share: elements of 16 and 32 bits among the bytes of a tensor, and
// tensors that live on the host in float64 and on the device in their type.
#pragma once

#include <cstring>
#include <initializer_list>
#include <random>
#include <vector>

#include "cpp/core/half.h"
#include "cpp/core/tensor_view.h"
#include "cuda/runtime.h"

namespace longspan {

inline double rounded(double x, DType type) {
  if (type == DType::f64) return x;
  const auto narrow = static_cast<float>(x);
  if (type == DType::f16) return toFloat(toF16(narrow));
  if (type == DType::bf16) return toFloat(toBf16(narrow));
  return narrow;
}

inline void putElement(std::vector<std::byte>& to, size_t at, DType type, float x) {
  const size_t size = sizeOf(type);
  const uint16_t half = type == DType::f16 ? toF16(x).bits : toBf16(x).bits;
  std::memcpy(&to[at * size], size == 4 ? static_cast<const void*>(&x) : &half, size);
}

inline float getElement(const std::vector<std::byte>& from, size_t at, DType type) {
  float wide = 0;
  uint16_t half = 0;
  const size_t size = sizeOf(type);
  std::memcpy(size == 4 ? static_cast<void*>(&wide) : &half, &from[at * size], size);
  if (size == 4) return wide;
  return type == DType::f16 ? toFloat(f16{half}) : toFloat(bf16{half});
}

// Host values of a tensor, and its copy on the device.
struct Array {
  TensorView view;  // contiguous, on the host in f64
  std::vector<double> values;
  std::vector<std::byte> narrow;
  void* device = nullptr;

  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() {
    if (device != nullptr) cudaFree(device);
  }

  void shape(std::initializer_list<int64_t> dims) {
    view = TensorView::ofShape(DType::f64, dims);
    values.assign(static_cast<size_t>(view.numel()), 0.0);
    view.base = reinterpret_cast<std::byte*>(values.data());
  }
  void random(std::mt19937& generator, DType type) {
    std::normal_distribution<double> normal;
    for (double& x : values) x = rounded(normal(generator), type);
  }
  // The tensor on the device in `type`, its base `shift` elements off alignment, rows `pad`
  // elements further apart.
  TensorView onDevice(DType type, int64_t shift = 0, int64_t pad = 0) {
    TensorView t = view;
    t.dtype = type;
    const int64_t width = view.shape[view.rank - 1], rows = width == 0 ? 0 : view.numel() / width;
    for (int i = 0; i + 1 < view.rank; ++i) t.stride[i] = view.stride[i] / width * (width + pad);
    // To whole runs of 16 bytes, as the library's allocator gives memory.
    const size_t bytes = (static_cast<size_t>(rows * (width + pad) + shift) + 1) * sizeOf(type);
    narrow.assign((bytes + 15) / 16 * 16, std::byte{0xff});
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < width; ++c) {
        putElement(narrow, static_cast<size_t>(shift + r * (width + pad) + c), type,
                   static_cast<float>(values[static_cast<size_t>(r * width + c)]));
      }
    }
    if (device != nullptr) cudaFree(device);
    cudaMalloc(&device, narrow.size());
    cudaMemcpy(device, narrow.data(), narrow.size(), cudaMemcpyHostToDevice);
    t.base = static_cast<std::byte*>(device);
    t.offset = shift;
    return t;
  }
};

// A fresh output on the device.
struct Output {
  TensorView* view;
  void* device = nullptr;
  explicit Output(TensorView& v) : view(&v) {
    const auto bytes = static_cast<size_t>(v.bytes());
    cudaMalloc(&device, bytes + 16);
    v.base = static_cast<std::byte*>(device);
  }
  ~Output() { cudaFree(device); }
  std::vector<double> read() const {
    std::vector<std::byte> bytes(static_cast<size_t>(view->bytes()));
    cudaMemcpy(bytes.data(), device, bytes.size(), cudaMemcpyDeviceToHost);
    std::vector<double> out(static_cast<size_t>(view->numel()));
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = getElement(bytes, i, view->dtype);
    }
    return out;
  }
};

}  // namespace longspan
