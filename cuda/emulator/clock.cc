#include "cuda/emulator/clock.h"

#include <algorithm>

namespace longspan::emulator {
namespace {

// Freed vectors, for the next one; guarded by the machine's lock like everything here. Never
// destroyed: references may outlive static objects.
std::vector<Knowledge*>& spare() {
  static auto& list = *new std::vector<Knowledge*>;
  return list;
}

Knowledge* take() {
  if (spare().empty()) return new Knowledge;
  Knowledge* k = spare().back();
  spare().pop_back();
  return k;
}

}  // namespace

ForeignRef joinForeign(const ForeignRef& a, const ForeignRef& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  auto sum = std::make_shared<Foreign>(*a);
  for (const auto& [block, times] : *b) {
    auto& mine = (*sum)[block];
    if (!mine || mine == times) {
      mine = times;
      continue;
    }
    auto larger = std::make_shared<std::vector<uint32_t>>(*mine);
    for (size_t i = 0; i < larger->size(); ++i) (*larger)[i] = std::max((*larger)[i], (*times)[i]);
    mine = std::move(larger);
  }
  return sum;
}

KnowledgeRef KnowledgeRef::zero(size_t components) {
  Knowledge* k = take();
  k->at.assign(components, 0);
  return KnowledgeRef(k);
}

KnowledgeRef KnowledgeRef::copyOf(const Knowledge& from) {
  Knowledge* k = take();
  k->at = from.at;
  k->foreign = from.foreign;
  return KnowledgeRef(k);
}

void KnowledgeRef::recycle(Knowledge* k) {
  k->foreign.reset();
  spare().push_back(k);
}

void joinInto(Knowledge& to, const Knowledge& from) {
  if (from.at.size() > to.at.size()) to.at.resize(from.at.size(), 0);
  for (size_t i = 0; i < from.at.size(); ++i) to.at[i] = std::max(to.at[i], from.at[i]);
  to.foreign = joinForeign(to.foreign, from.foreign);
}

void Gathering::own() {
  if (sum_->references > 1) sum_ = KnowledgeRef::copyOf(*sum_);
}

void Gathering::add(const KnowledgeRef& known, uint32_t thread, uint32_t time) {
  if (!sum_) {
    sum_ = KnowledgeRef::copyOf(*known);
  } else {
    own();
    if (!(last_ == known)) joinInto(*sum_, *known);
  }
  last_ = known;
  sum_->at[thread] = std::max(sum_->at[thread], time);
}

void Gathering::set(uint32_t component, uint32_t time, size_t components) {
  if (!sum_) sum_ = KnowledgeRef::zero(components);
  own();
  sum_->at[component] = std::max(sum_->at[component], time);
}

KnowledgeRef Joiner::join(const KnowledgeRef& a, const KnowledgeRef& b) {
  if (!b || a == b) return a;
  if (left_ && left_ == a && right_ == b) return result_;
  KnowledgeRef sum = KnowledgeRef::copyOf(*a);
  joinInto(*sum, *b);
  left_ = a;
  right_ = b;
  result_ = sum;
  return sum;
}

}  // namespace longspan::emulator
