// The operands of a case on the device, and whether a result is right.
#pragma once

#include <string>
#include <vector>

#include "cpp/ops/dense/matmul.h"
#include "test/cuda/device_array.h"
#include "test/cuda/matmul_case.h"

namespace longspan::matmul_test {

struct Memory {
  std::vector<void*> blocks;
  ~Memory() {
    for (void* p : blocks) cudaFree(p);
  }
  std::byte* take(size_t bytes) {
    void* p = nullptr;
    if (cudaMalloc(&p, bytes + 16) != cudaSuccess) std::abort();
    blocks.push_back(p);
    return static_cast<std::byte*>(p);
  }
};

// A matrix [batches, sums, rows, k] on the device, in the given layout, with its values.
struct Matrix {
  TensorView view;
  std::vector<double> values;  // row-major [batches, sums, rows, k]
};

struct Product {
  Product(const Case& c, unsigned seed);
  // Memory of the results once more, for another run.
  void renew();
  // Empty, or what is wrong with the results.
  std::string check() const;

  const Case c;
  Memory memory;
  Matrix a, b;
  std::vector<double> bias;
  ops::Matmul p;
};

}  // namespace longspan::matmul_test
