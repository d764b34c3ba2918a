#include "cuda/emulator/global_memory.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/emulator/settings.h"

namespace longspan::emulator {
namespace {

constexpr size_t kWordsPerChunk = GlobalMemory::kChunkBytes / 4;
// Freed buffers whose addresses wait before they are used again.
constexpr size_t kQuarantineCount = 1024, kQuarantineBytes = size_t{64} << 20;

void* reserveRange(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

// Sizes above 16 pages round up to an eighth of their power of two, so that ranges get reused.
size_t rangePages(size_t bytes) {
  const size_t pages = (bytes + GlobalMemory::kPage - 1) / GlobalMemory::kPage + 1;
  size_t step = 1;
  while (step * 16 < pages) step *= 2;
  return (pages + step - 1) / step * step;
}

}  // namespace

void FreeMemory::operator()(void* p) const { std::free(p); }

template <class T>
ZeroedArray<T> zeroed(size_t count) {
  void* p = std::calloc(count == 0 ? 1 : count, sizeof(T));
  if (p == nullptr) {
    std::fprintf(stderr, "longspan emulator: no host memory for the shadow of a buffer\n");
    std::abort();
  }
  return ZeroedArray<T>(static_cast<T*>(p));
}

void GlobalMemory::reserve() {
  // A machine that refuses to overcommit gets a smaller range.
  for (size_ = size_t{64} << 30; size_ >= size_t{1} << 28; size_ /= 2) {
    base_ = static_cast<uint8_t*>(reserveRange(size_));
    if (base_ != nullptr) break;
  }
  pages_ = static_cast<Allocation**>(
      base_ == nullptr ? nullptr : reserveRange(size_ / kPage * sizeof(Allocation*)));
  if (pages_ == nullptr) {
    std::fprintf(stderr, "longspan emulator: no address space for device memory\n");
    std::abort();
  }
}

uint8_t* GlobalMemory::takeRange(size_t pages) {
  auto& ranges = freeRanges_[pages];
  if (!ranges.empty()) {
    uint8_t* range = ranges.back();
    ranges.pop_back();
    return range;
  }
  if (top_ + pages * kPage > size_) return nullptr;
  uint8_t* range = base_ + top_;
  top_ += pages * kPage;
  return range;
}

Allocation* GlobalMemory::allocate(size_t bytes, int device) {
  if (base_ == nullptr) reserve();
  const size_t pages = rangePages(bytes);
  uint8_t* range = takeRange(pages);
  while (range == nullptr && !quarantine_.empty()) {
    release(quarantine_.front());
    quarantine_.pop_front();
    range = takeRange(pages);
  }
  if (range == nullptr) return nullptr;
  auto* a = new Allocation;
  a->base = range;
  a->bytes = bytes;
  a->pages = pages;
  a->device = device;
  for (size_t i = 0; i + 1 < pages; ++i) pages_[(range - base_) / kPage + i] = a;
  liveBytes_ += bytes;
  renew(*a);
  return a;
}

void GlobalMemory::renew(Allocation& a) {
  if (!a.live) liveBytes_ += a.bytes;
  a.live = true;
  if (!environment().settings.checks) return;
  std::memset(a.base, 0xff, a.bytes);
  a.initialised = zeroed<uint8_t>(a.bytes);
  const size_t chunks = (a.bytes + kChunkBytes - 1) / kChunkBytes;
  a.words = zeroed<GlobalCell>(chunks * kWordsPerChunk);
  a.stamps = zeroed<uint32_t>(chunks);
  a.bytesOf.reset();
}

void GlobalMemory::free(Allocation* a) {
  a->live = false;
  liveBytes_ -= a->bytes;
  a->initialised.reset();
  a->words.reset();
  a->bytesOf.reset();
  a->stamps.reset();
  if (a->ofGraph) return;
  quarantine_.push_back(a);
  quarantinedBytes_ += a->bytes;
  while (quarantine_.size() > kQuarantineCount || quarantinedBytes_ > kQuarantineBytes) {
    release(quarantine_.front());
    quarantine_.pop_front();
  }
}

void GlobalMemory::release(Allocation* a) {
  quarantinedBytes_ -= a->bytes;
  for (size_t i = 0; i + 1 < a->pages; ++i) pages_[(a->base - base_) / kPage + i] = nullptr;
  constexpr size_t kWorthReturning = 64;
  if (a->pages >= kWorthReturning) madvise(a->base, a->pages * kPage, MADV_DONTNEED);
  freeRanges_[a->pages].push_back(a->base);
  delete a;
}

GlobalCell& GlobalMemory::wordAt(Allocation& a, size_t word, uint32_t launch) {
  const size_t chunk = word / kWordsPerChunk;
  if (a.stamps[chunk] != launch) {
    std::memset(static_cast<void*>(&a.words[chunk * kWordsPerChunk]), 0,
                kWordsPerChunk * sizeof(GlobalCell));
    a.stamps[chunk] = launch;
  }
  return a.words[word];
}

GlobalCell* GlobalMemory::splitBytes(Allocation& a, size_t word) {
  if (!a.bytesOf) {
    const size_t chunks = (a.bytes + kChunkBytes - 1) / kChunkBytes;
    a.bytesOf = zeroed<GlobalCell>(chunks * kChunkBytes);
  }
  GlobalCell* bytes = &a.bytesOf[word * 4];
  GlobalCell& whole = a.words[word];
  if (whole.writer != kSplit) {
    for (int i = 0; i < 4; ++i) bytes[i] = whole;
    whole.writer = kSplit;
  }
  return bytes;
}

}  // namespace longspan::emulator
