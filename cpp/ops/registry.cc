#include <algorithm>
#include <cstring>

#include "cpp/ops/operator.h"

namespace longspan {
namespace {

struct Registry {
  std::vector<std::unique_ptr<Operator>> owned;
  std::vector<const Operator*> sorted;
};

Registry& registry() {
  static Registry* instance = new Registry();  // used by other files' static initialisers
  return *instance;
}

}  // namespace

void addOperator(std::unique_ptr<Operator> op) {
  Registry& r = registry();
  const auto before = [](const Operator* a, const Operator* b) {
    return std::strcmp(a->name(), b->name()) < 0;
  };
  const Operator* raw = op.get();
  r.sorted.insert(std::upper_bound(r.sorted.begin(), r.sorted.end(), raw, before), raw);
  r.owned.push_back(std::move(op));
}

const std::vector<const Operator*>& operators() { return registry().sorted; }

}  // namespace longspan
