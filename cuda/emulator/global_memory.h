// Device memory of all emulated devices: one reserved range of addresses, in which every buffer has
// pages of its own with a guard page behind, and a shadow of its own that goes when the buffer
// goes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

namespace longspan::emulator {

// Last write and last read of 4 bytes in the current launch; split into one cell per byte when
// accesses of 1 or 2 bytes come. 0: none.
struct GlobalCell {
  uint64_t writer = 0, reader = 0;
};

inline constexpr uint64_t kSplit = 1;  // `writer` of a split word: look at its bytes

struct FreeMemory {
  void operator()(void* p) const;
};
template <class T>
using ZeroedArray = std::unique_ptr<T[], FreeMemory>;
template <class T>
ZeroedArray<T> zeroed(size_t count);

struct Allocation {
  uint8_t* base = nullptr;
  size_t bytes = 0;
  size_t pages = 0;  // guard page included
  int device = 0;
  bool live = true;                  // false: freed, its addresses not yet reused
  bool pooled = false;               // counted by the pool
  bool ofGraph = false;              // freeing only marks it: replays use the same addresses
  ZeroedArray<uint8_t> initialised;  // per byte
  ZeroedArray<GlobalCell> words;     // per 4 bytes
  ZeroedArray<GlobalCell> bytesOf;   // per byte, of split words; made when first needed
  ZeroedArray<uint32_t> stamps;      // per chunk: the launch its words belong to

  bool contains(const void* p, size_t n) const {
    const auto* q = static_cast<const uint8_t*>(p);
    return q >= base && q + n <= base + bytes;
  }
};

class GlobalMemory {
 public:
  static constexpr size_t kPage = 4096;
  static constexpr size_t kChunkBytes = 1024;  // of memory per stamp

  // Filled with 0xff (NaN in every float format) and uninitialised. Null when addresses run out.
  Allocation* allocate(size_t bytes, int device);
  void free(Allocation* allocation);
  // Returns it to the state after allocate(), for the replay of a captured allocation.
  void renew(Allocation& allocation);

  bool covers(const void* p) const {
    return static_cast<size_t>(static_cast<const uint8_t*>(p) - base_) < size_;
  }
  // The buffer whose pages hold p, freed ones included; null in guards and unused pages.
  Allocation* find(const void* p) const {
    return covers(p) ? pages_[static_cast<size_t>(static_cast<const uint8_t*>(p) - base_) / kPage]
                     : nullptr;
  }
  size_t liveBytes() const { return liveBytes_; }

  // The cell of a word, cleared when another launch wrote it last.
  static GlobalCell& wordAt(Allocation& a, size_t word, uint32_t launch);
  static GlobalCell* splitBytes(Allocation& a, size_t word);

 private:
  void reserve();
  uint8_t* takeRange(size_t pages);
  void release(Allocation* allocation);

  uint8_t* base_ = nullptr;
  size_t size_ = 0, top_ = kPage, liveBytes_ = 0, quarantinedBytes_ = 0;
  Allocation** pages_ = nullptr;
  std::map<size_t, std::vector<uint8_t*>> freeRanges_;  // by pages
  std::deque<Allocation*> quarantine_;                  // freed; found by a use after free
};

}  // namespace longspan::emulator
