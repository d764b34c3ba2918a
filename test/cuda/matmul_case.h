// A case of matmul's kernels, all cases, and what the planner should choose.
#pragma once

#include <string>
#include <vector>

#include "cuda/dense/matmul_plan.h"

namespace longspan::matmul_test {

using cuda::matmul::Kernel;
using cuda::matmul::TileSize;
namespace mm = cuda::matmul;

// How an operand lies: k-major, row-major, or with both strides other than 1; `pad` elements more
// from line to line, `shift` before the first.
struct Layout {
  enum Order { k, rows, neither } order = k;
  int pad = 0, shift = 0;
};

struct Case {
  const char* name;
  Kernel kernel;
  TileSize tile;
  DType type;
  int64_t m, n, k;
  Layout a, b;
  int splits = 1;
  int64_t batches = 1, sums = 1;
  bool broadcastB = false;
  ops::Activation activation = ops::Activation::none;
  bool bias = false, keep = false, pack = false;
};

std::vector<Case> cases();

// The operator with LONGSPAN_CUBLASLT; an exit code.
int runCublasLt(const std::string& expected);

// Lines of what is planned otherwise than it should be.
std::string checkPlans();

}  // namespace longspan::matmul_test
