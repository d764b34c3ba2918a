#include "cpp/core/recycler.h"

#include <cstdint>
#include <new>

namespace longspan {
namespace {

constexpr size_t kStep = 512, kBins = 16;  // sizes up to 8 KB
// Pieces kept of a size; none where a sanitizer shall see what is used after it was freed.
#if defined(__SANITIZE_ADDRESS__)
constexpr int kMost = 0;
#else
constexpr int kMost = 256;
#endif

struct Piece {
  Piece* next;
};
struct Bin {
  Piece* first = nullptr;
  int count = 0;
};

size_t binOf(size_t bytes) { return (bytes + kStep - 1) / kStep - 1; }

// Without a destructor, so that objects which outlive the thread's Keeper still find it.
struct Bins {
  Bin bin[kBins];
  bool open = true;
};
thread_local Bins bins;

struct Keeper {
  ~Keeper() {
    bins.open = false;
    for (Bin& bin : bins.bin) {
      while (bin.first != nullptr) {
        Piece* const piece = bin.first;
        bin.first = piece->next;
        ::operator delete(piece);
      }
    }
  }
  // Using it once makes the thread destroy it.
  void touch() {}
};
thread_local Keeper keeper;

}  // namespace

void* recycled(size_t bytes) {
  const size_t at = binOf(bytes);
  if (at >= kBins) return ::operator new(bytes);
  Bin& bin = bins.bin[at];
  if (bin.first == nullptr) return ::operator new((at + 1) * kStep);
  Piece* const piece = bin.first;
  bin.first = piece->next;
  --bin.count;
  return piece;
}

void recycle(void* memory, size_t bytes) noexcept {
  const size_t at = binOf(bytes);
  if (at >= kBins || !bins.open || bins.bin[at].count == kMost) return ::operator delete(memory);
  keeper.touch();
  Bin& bin = bins.bin[at];
  bin.first = new (memory) Piece{bin.first};
  ++bin.count;
}

}  // namespace longspan
