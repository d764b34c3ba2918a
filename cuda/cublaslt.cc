#include "cuda/cublaslt.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "cpp/ops/cublaslt_state.h"

namespace longspan::cuda::cublaslt {
namespace {

struct Loaded {
  Library library;
  bool usable = false;
  std::string why;  // not usable
};

// LONGSPAN_CUBLASLT_LIBRARY names one that the loader would not find, as in a Python package.
void* open(std::string& name, std::string& why) {
  const char* named = std::getenv("LONGSPAN_CUBLASLT_LIBRARY");
  for (const char* candidate : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
    name = named != nullptr ? named : candidate;
    if (void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return handle;
    why = dlerror();
    if (named != nullptr) return nullptr;
  }
  why = "neither libcublasLt.so.13 nor libcublasLt.so.12 was found";
  return nullptr;
}

Loaded load() {
  Loaded l;
  Library& lib = l.library;
  void* handle = open(lib.name, l.why);
  if (handle == nullptr) return l;
  const auto find = [&](auto& function, const char* name) {
    void* symbol = dlsym(handle, name);
    if (symbol == nullptr) l.why = lib.name + " lacks " + name;
    std::memcpy(&function, &symbol, sizeof symbol);
  };
  find(lib.version, "cublasLtGetVersion");
  find(lib.create, "cublasLtCreate");
  find(lib.descriptorCreate, "cublasLtMatmulDescCreate");
  find(lib.descriptorSet, "cublasLtMatmulDescSetAttribute");
  find(lib.layoutCreate, "cublasLtMatrixLayoutCreate");
  find(lib.layoutSet, "cublasLtMatrixLayoutSetAttribute");
  find(lib.preferenceCreate, "cublasLtMatmulPreferenceCreate");
  find(lib.preferenceSet, "cublasLtMatmulPreferenceSetAttribute");
  find(lib.preferenceDestroy, "cublasLtMatmulPreferenceDestroy");
  find(lib.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(lib.matmul, "cublasLtMatmul");
  l.usable = l.why.empty();
  return l;
}

const Loaded& loaded() {
  static const Loaded* l = new Loaded(load());
  return *l;
}

}  // namespace

Use use() {
  static const Use chosen = [] {
    const char* text = std::getenv("LONGSPAN_CUBLASLT");
    if (text != nullptr && std::strcmp(text, "auto") == 0) return Use::automatic;
    if (text != nullptr && std::strcmp(text, "on") == 0) return Use::on;
    return Use::off;
  }();
  return chosen;
}

const std::string& whyNone() { return loaded().why; }

const Library* library() { return loaded().usable ? &loaded().library : nullptr; }

std::string failure(const char* call, int status) {
  const char* name = "an unknown status";
  switch (status) {
    case 1:
      name = "not initialized";
      break;
    case 3:
      name = "out of memory";
      break;
    case 7:
      name = "invalid value";
      break;
    case 8:
      name = "architecture mismatch";
      break;
    case 11:
      name = "mapping error";
      break;
    case 13:
      name = "execution failed";
      break;
    case 14:
      name = "internal error";
      break;
    case kNotSupported:
      name = "not supported";
      break;
    default:
      break;
  }
  return std::string(call) + " answers " + std::to_string(status) + ", " + name;
}

}  // namespace longspan::cuda::cublaslt

namespace longspan {

std::string cublasLtState() {
  using namespace cuda::cublaslt;
  const char* text = std::getenv("LONGSPAN_CUBLASLT");
  if (use() == Use::off) {
    return text == nullptr || std::strcmp(text, "off") == 0
               ? "off (LONGSPAN_CUBLASLT=auto or on uses it for matmul)"
               : "off: LONGSPAN_CUBLASLT is neither off, auto nor on";
  }
  if (library() == nullptr) return "not used: " + whyNone();
  const size_t version = library()->version();
  return library()->name + ", version " + std::to_string(version / 10000) + "." +
         std::to_string(version / 100 % 100) + "." + std::to_string(version % 100) + ", " +
         (use() == Use::on ? "for every matmul that it can express"
                           : "for matmuls that it computes quicker than this package");
}

}  // namespace longspan
