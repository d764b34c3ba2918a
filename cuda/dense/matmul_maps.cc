#include "cuda/dense/matmul_maps.h"

namespace longspan::cuda::matmul {
namespace {

constexpr int64_t kLongest = 0x7fffff00;  // coordinates are 32-bit integers, also past an edge
constexpr int64_t kFarthest = (int64_t{1} << 40) / 2;  // strides, in 16-bit elements
constexpr int kOuterAxes = 2;

struct Outer {
  OuterAxis axis[kOuterAxes];
  int64_t stride[kOuterAxes] = {};
  int count = 0;
  bool possible = true;
};

// The batch and summed axes along which the operand is not broadcast, the fastest first.
Outer outerOf(const Problem& p, bool isA) {
  Outer out;
  for (const Axes* axes : {&p.summed, &p.batch}) {
    int64_t divisor = 1;
    for (int i = axes->rank - 1; i >= 0; --i) {
      const ops::MatmulShape::Axis& axis = axes->axis[i];
      const int64_t stride = isA ? axis.a : axis.b;
      if (axis.length > 1 && stride != 0) {
        if (out.count == kOuterAxes || stride < 0 || stride >= kFarthest) {
          out.possible = false;
          return out;
        }
        out.axis[out.count] = {static_cast<uint32_t>(divisor), static_cast<uint32_t>(axis.length),
                               axes == &p.summed};
        out.stride[out.count++] = stride;
      }
      divisor *= axis.length;
    }
  }
  return out;
}

bool mapped(const Problem& p, const Operand& x, int64_t rows, bool isA) {
  const int64_t stride = x.k == 1 ? x.row : x.k, lines = x.k == 1 ? rows : p.k;
  const bool upwards = lines == 1 || (stride > 0 && stride < kFarthest);
  return x.vectors && upwards && rows <= kLongest && outerOf(p, isA).possible;
}

}  // namespace

bool mapped(const Problem& p) {
  return p.k > 0 && p.k <= kLongest && mapped(p, p.a, p.m, true) && mapped(p, p.b, p.n, false);
}

cudaError_t mapOperand(OperandMap* out, const Problem& p, bool isA, DType type, int rows) {
  const Operand& x = isA ? p.a : p.b;
  const bool alongK = x.k == 1;
  const auto length = static_cast<uint64_t>(isA ? p.m : p.n), depth = static_cast<uint64_t>(p.k);
  const size_t element = sizeOf(type);
  TensorMapLayout layout;
  layout.type = type;
  layout.rank = 2 + kOuterAxes;
  layout.base = x.data;
  layout.swizzleBytes = kBoxElements * static_cast<int>(element);
  layout.extent[0] = alongK ? depth : length;
  layout.extent[1] = alongK ? length : depth;
  // The stride of an axis of one element is free, but must be one that a map may have.
  const auto line = static_cast<uint64_t>(alongK ? x.row : x.k);
  layout.strideBytes[1] =
      layout.extent[1] == 1 ? (layout.extent[0] * element + 15) / 16 * 16 : line * element;
  layout.box[0] = kBoxElements;
  layout.box[1] = alongK ? static_cast<uint32_t>(rows) : kBoxElements;
  const Outer outer = outerOf(p, isA);
  for (int i = 0; i < kOuterAxes; ++i) {
    out->outer[i] = outer.axis[i];
    layout.extent[2 + i] = outer.axis[i].length;
    layout.strideBytes[2 + i] =
        i < outer.count ? static_cast<uint64_t>(outer.stride[i]) * element : layout.strideBytes[1];
    layout.box[2 + i] = 1;
  }
  return encodeTensorMap(&out->map, layout);
}

cudaError_t mapResult(TensorMap* out, bool* exists, const Problem& p, const void* data, DType type,
                      int rows) {
  const auto element = static_cast<int64_t>(sizeOf(type)), line = p.n * element;
  *exists = line % 16 == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0 &&
            p.m * p.n < kFarthest && p.m <= kLongest && p.n <= kLongest;
  if (!*exists) return cudaSuccess;
  TensorMapLayout layout;
  layout.type = type;
  layout.rank = 3;
  layout.base = data;
  layout.swizzleBytes = kBoxElements * static_cast<int>(element);
  layout.extent[0] = static_cast<uint64_t>(p.n);
  layout.extent[1] = static_cast<uint64_t>(p.m);
  layout.extent[2] = static_cast<uint64_t>(p.batches);
  layout.strideBytes[1] = static_cast<uint64_t>(line);
  layout.strideBytes[2] = static_cast<uint64_t>(p.m * line);
  layout.box[0] = kBoxElements;
  layout.box[1] = static_cast<uint32_t>(rows);
  layout.box[2] = 1;
  return encodeTensorMap(out, layout);
}

}  // namespace longspan::cuda::matmul
