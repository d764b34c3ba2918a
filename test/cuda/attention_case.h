// A case of the attention kernels: its shapes and options, its tensors, and the naive formula.
#pragma once

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cpp/ops/attention/problem.h"
#include "test/cuda/device_array.h"

namespace longspan::attention_test {

inline constexpr double kNone = -std::numeric_limits<double>::infinity();

struct Case {
  const char* name;
  DType dtype;
  int64_t b, hq, hkv, n, m, d, dv;
  bool causal = false;
  int64_t left = -1, right = -1;
  double softcap = 0, scale = 0;  // 0: 1 / sqrt(d)
  std::vector<int32_t> keyLengths = {}, queryLengths = {};
  bool tokenMajor = false;
  int64_t shift = 0, pad = 0;
  std::vector<int32_t> prefixLengths = {}, cuSeqlensQ = {}, cuSeqlensK = {};
  std::vector<int32_t> querySegments = {}, keySegments = {};  // [B, N], [B, M]
  std::vector<int64_t> bias = {};                             // its four lengths
  bool wideBias = false;                                      // in f32
  bool alibi = false, sinks = false;
  double dropout = 0;
  int64_t pageSize = 0;  // of a paged cache
  int64_t splits = 0;    // of decoding

  bool packed() const { return !cuSeqlensQ.empty(); }
  double factor() const { return scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(d)); }
  std::string text() const {
    return std::string(name) + " " + nameOf(dtype) + " n" + std::to_string(n) + " m" +
           std::to_string(m) + " d" + std::to_string(d) + "/" + std::to_string(dv);
  }
};

// Philox's state in every case with dropout.
inline const std::vector<int32_t> kDropoutState = {77, 0, 5, 0};

// What a case computes with.
struct Data {
  Array q, k, v, gradO, gradLse, bias, slopes, sinks;

  Data(const Case& c, unsigned seed) {
    std::mt19937 generator(seed);
    const auto make = [&](Array& a, int64_t heads, int64_t tokens, int64_t dim) {
      if (c.tokenMajor) {
        a.shape({c.b, tokens, heads, dim});
      } else {
        a.shape({c.b, heads, tokens, dim});
      }
      a.random(generator, c.dtype);
    };
    make(q, c.hq, c.n, c.d);
    make(k, c.hkv, c.m, c.d);
    make(v, c.hkv, c.m, c.dv);
    make(gradO, c.hq, c.n, c.dv);
    gradLse.shape({c.b, c.hq, c.n});
    gradLse.random(generator, DType::f32);
    if (!c.bias.empty()) {
      bias.shape({c.bias[0], c.bias[1], c.bias[2], c.bias[3]});
      bias.random(generator, c.wideBias ? DType::f32 : c.dtype);
      for (size_t i = 3; i < bias.values.size(); i += 17) bias.values[i] = kNone;
    }
    if (c.alibi) {
      slopes.shape({c.hq});
      for (double& x : slopes.values) x = 0.3 / static_cast<double>(1 + &x - slopes.values.data());
    }
    if (c.sinks) {
      sinks.shape({c.hq});
      sinks.random(generator, DType::f32);
    }
  }
  void poison(const Case& c);  // NaN beyond the lengths, where nothing may be used
};

// Integers on the device, such as the lengths of a batch; without any the tensor stays undefined.
struct Lengths {
  void* device = nullptr;
  TensorView onDevice;
  explicit Lengths(const std::vector<int32_t>& x, int64_t rows = 0) {  // 0: of rank 1
    if (x.empty()) return;
    const auto count = static_cast<int64_t>(x.size());
    onDevice = rows == 0 ? TensorView::ofShape(DType::i32, {count})
                         : TensorView::ofShape(DType::i32, {rows, count / rows});
    cudaMalloc(&device, x.size() * 4);
    cudaMemcpy(device, x.data(), x.size() * 4, cudaMemcpyHostToDevice);
    onDevice.base = static_cast<std::byte*>(device);
  }
  Lengths(const Lengths&) = delete;
  Lengths& operator=(const Lengths&) = delete;
  ~Lengths() {
    if (device != nullptr) cudaFree(device);
  }
};

// The naive formula row by row, intermediate results rounded to `type`; also the gradients.
struct Naive {
  std::vector<double> o, lse, gradQ, gradK, gradV, gradBias, gradSinks;
};
Naive naive(const Case& c, const Data& x, DType type);

inline constexpr DType kTypes[] = {DType::f16, DType::bf16, DType::f32};
std::vector<Case> attentionCases();  // of forward and backward
std::vector<Case> featureCases();    // of these, with options that few calls have
std::vector<Case> hopperCases();     // whose rings go around, for kernels of sm_90a
std::vector<Case> decodeCases();

}  // namespace longspan::attention_test
