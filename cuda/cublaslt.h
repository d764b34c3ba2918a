// cuBLASLt as far as matmul calls it, loaded when it is first wanted: a build needs no header and
// no library of NVIDIA's, and a machine without it none either. Values and layouts are those of the
// public cublasLt.h, the same in CUDA 12 and 13. Not yet run on hardware.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda/runtime.h"

namespace longspan::cuda::cublaslt {

using Handle = struct HandleOf*;
using Descriptor = struct DescriptorOf*;
using Layout = struct LayoutOf*;
using Preference = struct PreferenceOf*;

inline constexpr int kSuccess = 0, kNotSupported = 15;
enum DataType { kR32F = 0, kR16F = 2, kR16BF = 14 };
enum ComputeType { kCompute32F = 68, kCompute32FFastTf32 = 77 };
enum Operation : int32_t { kNone = 0, kTranspose = 1 };
enum Epilogue : uint32_t { kDefault = 1, kRelu = 2, kBias = 4, kReluBias = 6 };
enum DescriptorAttribute { kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8 };
enum LayoutAttribute { kBatchCount = 5, kStridedBatchOffset = 6 };
enum PreferenceAttribute {
  kMaxWorkspaceBytes = 1,
  kReductionSchemeMask = 3,
  kMinAlignmentA = 5,
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8,
};
inline constexpr uint32_t kReduceInComputeType = 2;  // of parts of K: in f32

struct Algorithm {
  uint64_t data[8];
};
struct Heuristic {
  Algorithm algorithm;
  size_t workspaceBytes;
  int status;
  float waves;
  int reserved[4];
};

struct Library {
  std::string name;
  size_t (*version)();
  int (*create)(Handle*);
  int (*descriptorCreate)(Descriptor*, ComputeType, DataType scale);
  int (*descriptorSet)(Descriptor, DescriptorAttribute, const void*, size_t);
  int (*layoutCreate)(Layout*, DataType, uint64_t rows, uint64_t columns, int64_t leading);
  int (*layoutSet)(Layout, LayoutAttribute, const void*, size_t);
  int (*preferenceCreate)(Preference*);
  int (*preferenceSet)(Preference, PreferenceAttribute, const void*, size_t);
  int (*preferenceDestroy)(Preference);
  int (*heuristic)(Handle, Descriptor, Layout a, Layout b, Layout c, Layout d, Preference,
                   int wanted, Heuristic*, int* found);
  int (*matmul)(Handle, Descriptor, const void* alpha, const void* a, Layout, const void* b, Layout,
                const void* beta, const void* c, Layout, void* d, Layout, const Algorithm*,
                void* workspace, size_t workspaceBytes, cudaStream_t);
};

// LONGSPAN_CUBLASLT. `off`: results depend on this package alone, and a call can be repeated bit
// for bit in any process. `automatic`: where it was found and, timed against this package's kernels
// when a shape is first met, is quicker. `on`: for every product that it can express, or fail.
enum class Use { off, automatic, on };
Use use();

// Null where there is none; whyNone() then says what was looked for.
const Library* library();
const std::string& whyNone();

// The words for a status other than kSuccess.
std::string failure(const char* call, int status);

}  // namespace longspan::cuda::cublaslt
