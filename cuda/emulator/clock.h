// Vector clocks. What a thread knows of the others is an immutable vector shared by all threads
// that left the same barrier; only its own time is its own. So a barrier of n threads costs O(n),
// not O(n^2).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

namespace longspan::emulator {

// What is known of threads of other blocks, by block number.
using Foreign = std::map<uint32_t, std::shared_ptr<const std::vector<uint32_t>>>;
using ForeignRef = std::shared_ptr<const Foreign>;

ForeignRef joinForeign(const ForeignRef& a, const ForeignRef& b);

struct Knowledge {
  uint32_t references = 0;
  ForeignRef foreign;
  std::vector<uint32_t>
      at;  // component -> time: threads, then mbarriers, then tensor cores of warps
};

class KnowledgeRef {
 public:
  KnowledgeRef() = default;
  explicit KnowledgeRef(Knowledge* k) : k_(k) { ++k_->references; }
  KnowledgeRef(const KnowledgeRef& other) : k_(other.k_) {
    if (k_ != nullptr) ++k_->references;
  }
  KnowledgeRef(KnowledgeRef&& other) noexcept : k_(other.k_) { other.k_ = nullptr; }
  KnowledgeRef& operator=(KnowledgeRef other) noexcept {
    std::swap(k_, other.k_);
    return *this;
  }
  ~KnowledgeRef() {
    if (k_ != nullptr && --k_->references == 0) recycle(k_);
  }
  Knowledge* operator->() const { return k_; }
  Knowledge& operator*() const { return *k_; }
  explicit operator bool() const { return k_ != nullptr; }
  bool operator==(const KnowledgeRef& other) const { return k_ == other.k_; }
  const Knowledge* get() const { return k_; }

  static KnowledgeRef zero(size_t components);
  static KnowledgeRef copyOf(const Knowledge& k);

 private:
  static void recycle(Knowledge* k);
  Knowledge* k_ = nullptr;
};

void joinInto(Knowledge& to, const Knowledge& from);

// The sum of what several threads know.
class Gathering {
 public:
  void add(const KnowledgeRef& known, uint32_t thread, uint32_t time);
  void set(uint32_t component, uint32_t time, size_t components);
  const KnowledgeRef& sum() const { return sum_; }
  void clear() {
    sum_ = {};
    last_ = {};
  }

 private:
  void own();  // nobody else may see later additions
  KnowledgeRef sum_, last_;
};

// Joins two vectors, remembering the last answer: the threads of a warp ask the same in turn.
class Joiner {
 public:
  KnowledgeRef join(const KnowledgeRef& a, const KnowledgeRef& b);
  void clear() { left_ = right_ = result_ = {}; }

 private:
  KnowledgeRef left_, right_, result_;
};

}  // namespace longspan::emulator
