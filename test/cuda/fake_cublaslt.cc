// Stands in for libcublasLt: the functions that cuda/cublaslt.h loads, with NVIDIA's rules for
// their arguments, computing on the host. FAKE_CUBLASLT makes it `slow`, `unsupported` (no
// algorithm for anything) or `failing` (matmul answers 13).
#include <chrono>
#include <cstdlib>
#include <thread>

#include "cuda/cublaslt.h"
#include "test/cuda/device_array.h"

namespace longspan::cuda::cublaslt {

struct HandleOf {};
struct DescriptorOf {
  ComputeType compute;
  int32_t transA = kNone, transB = kNone;
  uint32_t epilogue = kDefault;
  const void* bias = nullptr;
};
struct LayoutOf {
  DataType type;
  uint64_t rows, columns;
  int64_t leading;
  int32_t count = 1;
  int64_t stride = 0;
};
struct PreferenceOf {
  uint64_t workspace = 0;
  uint32_t scheme = ~0u, alignment[4] = {256, 256, 256, 256};
};

namespace {

constexpr int kInvalid = 7;
constexpr size_t kWorkspace = 1024;
int64_t calls = 0;

bool behaves(const char* how) {
  const char* wanted = std::getenv("FAKE_CUBLASLT");
  return wanted != nullptr && std::strcmp(wanted, how) == 0;
}

template <class V>
int store(V& to, const void* from, size_t bytes) {
  if (bytes != sizeof to || from == nullptr) return kInvalid;
  std::memcpy(&to, from, bytes);
  return kSuccess;
}

DType typeOf(DataType type) {
  return type == kR32F ? DType::f32 : type == kR16F ? DType::f16 : DType::bf16;
}

// A matrix's elements on the host; (row, column) of the batch element, or of its transpose. As
// numbers, so that the product takes a small part of what the emulator takes for it: in `auto` it
// has to win.
struct Host {
  const LayoutOf& layout;
  std::vector<float> values;
  Host(const LayoutOf& l, const void* device) : layout(l) {
    const DType type = typeOf(l.type);
    values.resize(countOf(l));
    std::vector<std::byte> bytes(values.size() * sizeOf(type));
    cudaMemcpy(bytes.data(), device, bytes.size(), cudaMemcpyDeviceToHost);
    for (size_t i = 0; i < values.size(); ++i) values[i] = getElement(bytes, i, type);
  }
  static size_t countOf(const LayoutOf& l) {
    const int64_t last =
        l.stride * (l.count - 1) + l.leading * (static_cast<int64_t>(l.columns) - 1);
    return static_cast<size_t>(last + static_cast<int64_t>(l.rows));
  }
  float at(int32_t batch, int64_t row, int64_t column, bool transposed) const {
    if (transposed) std::swap(row, column);
    return values[static_cast<size_t>(batch * layout.stride + column * layout.leading + row)];
  }
};

struct Sizes {
  int64_t m, n, k;
};
bool fits(const DescriptorOf& d, const LayoutOf& a, const LayoutOf& b, const LayoutOf& y,
          Sizes* out) {
  const auto rows = [](const LayoutOf& l, bool t) {
    return static_cast<int64_t>(t ? l.columns : l.rows);
  };
  *out = {rows(a, d.transA == kTranspose), rows(b, d.transB != kTranspose),
          rows(a, d.transA != kTranspose)};
  for (const LayoutOf* l : {&a, &b, &y}) {
    if (l->leading < static_cast<int64_t>(l->rows) || l->count != y.count || l->type != y.type)
      return false;
  }
  return rows(b, d.transB == kTranspose) == out->k && rows(y, false) == out->m &&
         rows(y, true) == out->n;
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int64_t fakeCublasLtCalls() { return calls; }

size_t cublasLtGetVersion() { return 130001; }

int cublasLtCreate(Handle* out) {
  *out = new HandleOf;
  return kSuccess;
}

int cublasLtMatmulDescCreate(Descriptor* out, ComputeType compute, DataType scale) {
  if (scale != kR32F || (compute != kCompute32F && compute != kCompute32FFastTf32)) return kInvalid;
  *out = new DescriptorOf{compute};
  return kSuccess;
}

int cublasLtMatmulDescSetAttribute(Descriptor d, DescriptorAttribute attribute, const void* value,
                                   size_t bytes) {
  switch (attribute) {
    case kTransA:
      return store(d->transA, value, bytes);
    case kTransB:
      return store(d->transB, value, bytes);
    case kEpilogue:
      return store(d->epilogue, value, bytes);
    case kBiasPointer:
      return store(d->bias, value, bytes);
  }
  return kInvalid;
}

int cublasLtMatrixLayoutCreate(Layout* out, DataType type, uint64_t rows, uint64_t columns,
                               int64_t leading) {
  *out = new LayoutOf{type, rows, columns, leading};
  return kSuccess;
}

int cublasLtMatrixLayoutSetAttribute(Layout l, LayoutAttribute attribute, const void* value,
                                     size_t bytes) {
  return attribute == kBatchCount           ? store(l->count, value, bytes)
         : attribute == kStridedBatchOffset ? store(l->stride, value, bytes)
                                            : kInvalid;
}

int cublasLtMatmulPreferenceCreate(Preference* out) {
  *out = new PreferenceOf;
  return kSuccess;
}

int cublasLtMatmulPreferenceDestroy(Preference p) {
  delete p;
  return kSuccess;
}

int cublasLtMatmulPreferenceSetAttribute(Preference p, PreferenceAttribute attribute,
                                         const void* value, size_t bytes) {
  if (attribute == kMaxWorkspaceBytes) return store(p->workspace, value, bytes);
  if (attribute == kReductionSchemeMask) return store(p->scheme, value, bytes);
  if (attribute < kMinAlignmentA || attribute > kMinAlignmentD) return kInvalid;
  return store(p->alignment[attribute - kMinAlignmentA], value, bytes);
}

int cublasLtMatmulAlgoGetHeuristic(Handle, Descriptor d, Layout a, Layout b, Layout c, Layout y,
                                   Preference p, int wanted, Heuristic* out, int* found) {
  Sizes sizes;
  *found = 0;
  if (wanted < 1 || c != y || !fits(*d, *a, *b, *y, &sizes)) return kInvalid;
  if (behaves("unsupported")) return kNotSupported;
  if (p->workspace < kWorkspace || (p->scheme & kReduceInComputeType) == 0) return kNotSupported;
  *found = 1;
  *out = {};
  out->algorithm.data[0] = static_cast<uint64_t>(sizes.m * 1000003 + sizes.n * 1009 + sizes.k);
  out->algorithm.data[1] = p->alignment[0];
  out->workspaceBytes = kWorkspace;
  return kSuccess;
}

int cublasLtMatmul(Handle, Descriptor d, const void* alpha, const void* a, Layout la, const void* b,
                   Layout lb, const void* beta, const void* c, Layout lc, void* y, Layout ly,
                   const Algorithm* algorithm, void* workspace, size_t workspaceBytes,
                   cudaStream_t stream) {
  ++calls;
  Sizes s;
  float scale[2];
  std::memcpy(&scale[0], alpha, 4), std::memcpy(&scale[1], beta, 4);
  if (c != y || lc != ly || scale[0] != 1 || scale[1] != 0 || !fits(*d, *la, *lb, *ly, &s))
    return kInvalid;
  if (algorithm->data[0] != static_cast<uint64_t>(s.m * 1000003 + s.n * 1009 + s.k))
    return kInvalid;
  if (workspace == nullptr || workspaceBytes < kWorkspace) return kInvalid;
  for (const void* operand : {a, b, static_cast<const void*>(y)}) {
    if (reinterpret_cast<uintptr_t>(operand) % algorithm->data[1] != 0) return kInvalid;
  }
  const bool biased = (d->epilogue & kBias) != 0;
  if (biased && d->bias == nullptr) return kInvalid;
  if (behaves("failing")) return 13;
  if (behaves("slow")) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const Host hostA(*la, a), hostB(*lb, b);
  const LayoutOf biasLayout{ly->type, ly->rows, 1, static_cast<int64_t>(ly->rows)};
  const Host bias(biased ? biasLayout : *la, biased ? d->bias : a);
  std::vector<std::byte> result(Host::countOf(*ly) * sizeOf(typeOf(ly->type)));
  const bool transA = d->transA == kTranspose, transB = d->transB == kTranspose;
  for (int32_t z = 0; z < ly->count; ++z) {
    for (int64_t j = 0; j < s.n; ++j) {
      for (int64_t i = 0; i < s.m; ++i) {
        double sum = biased ? bias.at(0, i, 0, false) : 0;
        for (int64_t k = 0; k < s.k; ++k) {
          sum += double{hostA.at(z, i, k, transA)} * hostB.at(z, k, j, transB);
        }
        if ((d->epilogue & kRelu) != 0 && !(sum > 0)) sum = 0;
        const int64_t at = z * ly->stride + j * ly->leading + i;
        putElement(result, static_cast<size_t>(at), typeOf(ly->type), static_cast<float>(sum));
      }
    }
  }
  const cudaError_t error =
      cudaMemcpyAsync(y, result.data(), result.size(), cudaMemcpyHostToDevice, stream);
  return error == cudaSuccess ? kSuccess : 13;
}

}  // extern "C"

}  // namespace longspan::cuda::cublaslt
