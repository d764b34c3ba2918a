#include "cuda/element.h"

#include <cstring>

#include "cpp/core/half.h"

namespace longspan::cuda {

uint64_t elementBits(DType dtype, double x) {
  uint64_t bits = 0;
  dispatchAny(dtype, [&](auto tag) {
    const auto element = store<typename decltype(tag)::type>(x);
    std::memcpy(&bits, &element, sizeof element);
  });
  return bits;
}

}  // namespace longspan::cuda
