#include "test/cuda/matmul_product.h"

#include <cmath>
#include <numbers>

namespace longspan::matmul_test {
namespace {

Matrix makeMatrix(Memory& memory, std::mt19937& random, DType type, Layout layout, int64_t batches,
                  int64_t sums, int64_t rows, int64_t k) {
  Matrix out;
  TensorView& v = out.view;
  v.dtype = type;
  v.rank = 4;
  v.shape = {batches, sums, rows, k};
  v.offset = layout.shift;
  const int64_t gap = layout.order == Layout::neither ? 2 : 1;
  const int64_t fast = layout.order == Layout::rows ? rows : k;
  const int64_t line = fast * gap + layout.pad;
  v.stride[2] = layout.order == Layout::rows ? gap : line;
  v.stride[3] = layout.order == Layout::rows ? line : gap;
  v.stride[1] = line * (layout.order == Layout::rows ? k : rows);
  v.stride[0] = v.stride[1] * sums;
  const int64_t all = layout.shift + v.stride[0] * batches;
  std::vector<std::byte> host(static_cast<size_t>(all) * sizeOf(type), std::byte{0xff});  // NaN
  std::normal_distribution<float> normal;
  for (int64_t b = 0; b < batches * sums; ++b) {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < k; ++i) {
        const auto at =
            static_cast<size_t>(v.offset + b * v.stride[1] + r * v.stride[2] + i * v.stride[3]);
        putElement(host, at, type, normal(random));
        out.values.push_back(getElement(host, at, type));
      }
    }
  }
  v.base = memory.take(host.size());
  cudaMemcpy(v.base, host.data(), host.size(), cudaMemcpyHostToDevice);
  return out;
}

double applied(ops::Activation f, double x) {
  switch (f) {
    case ops::Activation::relu:
      return x > 0 ? x : 0;
    case ops::Activation::gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case ops::Activation::geluTanh:
      return x / (1 + std::exp(-std::sqrt(8 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case ops::Activation::silu:
      return x / (1 + std::exp(-x));
    case ops::Activation::reluSquared:
      return x > 0 ? x * x : 0;
    default:
      return x;
  }
}

std::vector<std::byte> read(const TensorView& v) {
  std::vector<std::byte> host(static_cast<size_t>(v.bytes()));
  cudaMemcpy(host.data(), v.base, host.size(), cudaMemcpyDeviceToHost);
  return host;
}

}  // namespace

Product::Product(const Case& from, unsigned seed) : c(from), bias(static_cast<size_t>(from.n)) {
  std::mt19937 random(seed);
  a = makeMatrix(memory, random, c.type, c.a, c.batches, c.sums, c.m, c.k);
  b = makeMatrix(memory, random, c.type, c.b, c.broadcastB ? 1 : c.batches, c.sums, c.n, c.k);
  p.a = a.view, p.b = b.view;
  p.transposeB = true;
  if (c.batches > 1 || c.sums > 1) p.summed = {1};
  if (c.bias) {
    p.bias = makeMatrix(memory, random, c.type, {}, 1, 1, 1, c.n).view;
    const std::vector<std::byte> host = read(p.bias);
    for (size_t j = 0; j < bias.size(); ++j) bias[j] = getElement(host, j, c.type);
    p.bias.rank = 1, p.bias.shape[0] = c.n, p.bias.stride[0] = 1;
  }
  p.activation = c.activation;
  p.keepPreactivation = c.keep;
  p.allowTf32 = c.kernel == Kernel::tf32;
  if (!p.validate().ok()) std::abort();
  renew();
}

void Product::renew() {
  for (TensorView* out : {&p.y, &p.preactivation}) {
    if (out->defined()) out->base = memory.take(static_cast<size_t>(out->bytes()));
  }
}

std::string Product::check() const {
  const std::vector<std::byte> y = read(p.y);
  const std::vector<std::byte> pre = c.keep ? read(p.preactivation) : y;
  const double rounding = c.type == DType::f32 ? 1e-6 : c.type == DType::f16 ? 0x1p-11 : 0x1p-8;
  const double summing = c.kernel == Kernel::tf32 ? 0x1p-10 : 4e-6;
  for (int64_t z = 0; z < c.batches; ++z) {
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t j = 0; j < c.n; ++j) {
        double sum = bias[static_cast<size_t>(j)], size = std::abs(sum);
        for (int64_t s = 0; s < c.sums; ++s) {
          const int64_t zb = c.broadcastB ? s : z * c.sums + s;
          const double* x = a.values.data() + ((z * c.sums + s) * c.m + i) * c.k;
          const double* w = b.values.data() + (zb * c.n + j) * c.k;
          for (int64_t k = 0; k < c.k; ++k) sum += x[k] * w[k], size += std::abs(x[k] * w[k]);
        }
        const auto at = static_cast<size_t>((z * c.m + i) * c.n + j);
        const auto check = [&](double actual, double expected) {
          return std::abs(actual - expected) <= rounding * std::abs(expected) + summing * size;
        };
        const double value = getElement(y, at, c.type);
        const bool right = check(value, applied(c.activation, sum)) &&
                           (!c.keep || check(getElement(pre, at, c.type), sum));
        if (!right) {
          return "y[" + std::to_string(z) + ", " + std::to_string(i) + ", " + std::to_string(j) +
                 "] = " + std::to_string(value) + ", not " +
                 std::to_string(applied(c.activation, sum));
        }
      }
    }
  }
  return "";
}

}  // namespace longspan::matmul_test
