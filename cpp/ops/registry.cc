#include <algorithm>
#include <cstring>

#include "cpp/ops/operator.h"

namespace longspan {
namespace {

std::vector<Operator>& registry() {
  static auto* instance = new std::vector<Operator>();  // used by other files' static initialisers
  return *instance;
}

}  // namespace

OperatorRegistrar::OperatorRegistrar(Operator op) {
  const auto before = [](const Operator& a, const Operator& b) {
    return std::strcmp(a.name, b.name) < 0;
  };
  registry().insert(std::upper_bound(registry().begin(), registry().end(), op, before), op);
}

const std::vector<Operator>& operators() { return registry(); }

}  // namespace longspan
