// advanceGenerator and permutation: integer bookkeeping, one thread.
#include <algorithm>

#include "cpp/core/philox.h"
#include "cpp/ops/dense/random.h"

namespace longspan::cpu {

Status advanceGenerator(const ops::AdvanceGenerator& p, Context&) {
  int32_t* state = p.state.data<int32_t>();
  std::copy_n(state, 4, p.used.data<int32_t>());
  PhiloxState s = loadPhilox(state);
  s.offset += static_cast<uint64_t>(p.blocks);
  storePhilox(state, s);
  return {};
}

Status permutation(const ops::Permutation& p, Context& context) {
  const PhiloxState state = loadPhilox(p.state.data<int32_t>());
  auto* keys = reinterpret_cast<uint64_t*>(context.workspace.data);
  PhiloxBlock block{};
  for (int64_t i = 0; i < p.n; ++i) {
    if (i % 4 == 0) block = philox(state, static_cast<uint64_t>(i / 4));
    keys[i] = static_cast<uint64_t>(block.word[i % 4]) << 32 | static_cast<uint64_t>(i);
  }
  std::sort(keys, keys + p.n);
  int32_t* y = p.y.data<int32_t>();
  for (int64_t i = 0; i < p.n; ++i) y[i] = static_cast<int32_t>(keys[i] & 0xffffffffu);
  return {};
}

}  // namespace longspan::cpu
