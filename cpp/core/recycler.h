// Memory of short-lived objects of some hundred bytes to some KB, which a thread makes and frees by
// the thousand: what malloc would merge and split each time is kept for the next one.
#pragma once

#include <cstddef>

namespace longspan {

// Aligned as operator new aligns.
void* recycled(size_t bytes);
void recycle(void* memory, size_t bytes) noexcept;

// For std::allocate_shared.
template <class T>
struct RecyclingAllocator {
  using value_type = T;
  RecyclingAllocator() = default;
  template <class U>
  explicit(false) RecyclingAllocator(const RecyclingAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(recycled(n * sizeof(T))); }
  void deallocate(T* memory, size_t n) noexcept { recycle(memory, n * sizeof(T)); }
  bool operator==(const RecyclingAllocator&) const { return true; }
};

}  // namespace longspan
