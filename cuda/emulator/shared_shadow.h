// What the checker knows of a block's shared memory, to the byte: cells cover 4 bytes, and split
// into one cell per byte where accesses of 1 or 2 bytes come.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace longspan::emulator {

inline constexpr uint16_t kNobody = 0xffff;

struct SharedCell {
  const void* writePc = nullptr;
  uint32_t writeTime = 0;
  uint32_t readWarps = 0;     // which entries of `reads` are valid
  uint16_t writer = kNobody;  // thread, or component of an asynchronous engine
  uint16_t pendingReads = 0;  // asynchronous operations that still read
  uint8_t pendingWrites = 0;  // asynchronous copies that have not landed
  bool initialised = false;
  bool generic = false;  // written by ordinary stores: the async proxy needs a fence
  bool split = false;
};

struct SharedRead {
  const void* pc;
  uint32_t time;
  uint16_t thread;
};

class SharedShadow {
 public:
  void reset(size_t bytes, int warps) {
    bytes_ = bytes;
    warps_ = warps;
    const size_t words = (bytes + 3) / 4;
    words_.assign(words, SharedCell{});
    reads_.reserve(words * warps);
    // Cells of single bytes are written before they are read, when a word splits.
    byteCells_.reserve(words * 4);
    byteReads_.reserve(words * 4 * warps);
  }
  size_t bytes() const { return bytes_; }

  // Calls f(cell, reads of the cell by warp) for every cell of the range.
  template <class F>
  void visit(size_t offset, size_t count, F&& f) {
    const size_t end = offset + count;
    for (size_t word = offset / 4; word * 4 < end; ++word) {
      SharedCell& cell = words_[word];
      const bool whole = offset <= word * 4 && word * 4 + 4 <= end;
      if (whole && !cell.split) {
        f(cell, reads_.data() + word * warps_);
        continue;
      }
      if (!cell.split) split(word);
      const size_t first = offset > word * 4 ? offset : word * 4;
      const size_t last = end < word * 4 + 4 ? end : word * 4 + 4;
      for (size_t i = first; i < last; ++i) f(byteCells_[i], byteReads_.data() + i * warps_);
    }
  }

  // After a write of whole words their bytes are alike again.
  void merge(size_t offset, size_t count) {
    for (size_t word = (offset + 3) / 4; word * 4 + 4 <= offset + count; ++word) {
      if (!words_[word].split) continue;
      const SharedCell& byte = byteCells_[word * 4];
      bool alike = byte.readWarps == 0;
      for (int i = 1; i < 4 && alike; ++i) {
        const SharedCell& other = byteCells_[word * 4 + i];
        alike = other.pendingReads == byte.pendingReads &&
                other.pendingWrites == byte.pendingWrites && other.readWarps == 0;
      }
      if (!alike) continue;
      words_[word] = byte;
      words_[word].split = false;
    }
  }

 private:
  // Uninitialised storage that only grows.
  template <class T>
  class Storage {
   public:
    void reserve(size_t count) {
      if (count <= count_) return;
      data_.reset(static_cast<T*>(::operator new(count * sizeof(T))));
      count_ = count;
    }
    T* data() { return data_.get(); }
    T& operator[](size_t i) { return data_.get()[i]; }

   private:
    struct Delete {
      void operator()(T* p) const { ::operator delete(p); }
    };
    std::unique_ptr<T, Delete> data_;
    size_t count_ = 0;
  };

  void split(size_t word) {
    for (size_t i = word * 4; i < word * 4 + 4; ++i) {
      byteCells_[i] = words_[word];
      std::memcpy(byteReads_.data() + i * warps_, reads_.data() + word * warps_,
                  sizeof(SharedRead) * warps_);
    }
    words_[word].split = true;
  }

  size_t bytes_ = 0;
  int warps_ = 0;
  std::vector<SharedCell> words_;
  Storage<SharedCell> byteCells_;
  Storage<SharedRead> reads_, byteReads_;
};

}  // namespace longspan::emulator
