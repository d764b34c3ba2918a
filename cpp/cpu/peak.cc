#include "cpp/cpu/peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "cpp/core/buffer.h"
#include "cpp/core/host_allocator.h"

namespace longspan::cpu {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Work per second while every thread calls work(thread) again and again for `seconds`.
template <class F>
double rate(int threads, double seconds, F&& work) {
  // A line each, so that threads do not share one.
  struct alignas(64) Total {
    double work = 0;
  };
  std::vector<Total> totals(static_cast<size_t>(threads));
  const double begin = now(), deadline = begin + seconds;
  ThreadPool::shared().forEach(threads, [&](int64_t item, int) {
    do {
      totals[static_cast<size_t>(item)].work += work(item);
    } while (now() < deadline);
  });
  const double elapsed = now() - begin;
  double sum = 0;
  for (const Total& total : totals) sum += total.work;
  return sum / elapsed;
}

}  // namespace

Peak measurePeak(int threads, double seconds) {
  Peak peak{};
  const auto rounds = multiplyAddRoundsByLevel();
  std::vector<float> sinks(static_cast<size_t>(threads) * 16);
  peak.flops =
      rate(threads, seconds, [&](int64_t item) { return rounds(50000, sinks.data() + item * 16); });

  // 128 MB in all, beyond what a last-level cache keeps; copied in pieces, so that time is met
  // closely.
  constexpr size_t kPiece = size_t{1} << 20;
  const size_t pieces = std::max<size_t>(1, 64 / static_cast<size_t>(threads));
  Buffer memory(hostDevice(), static_cast<size_t>(threads) * pieces * kPiece * 2);
  if (!memory.materialise(hostDevice().source()).ok()) return peak;
  std::memset(memory.data(), 1, memory.bytes());
  std::vector<size_t> turns(static_cast<size_t>(threads) * 8);
  peak.bytes = rate(threads, seconds, [&](int64_t item) {
    const size_t turn = turns[static_cast<size_t>(item) * 8]++ % pieces;
    std::byte* const own = memory.data() + static_cast<size_t>(item) * pieces * kPiece * 2;
    std::memcpy(own + turn * kPiece, own + (pieces + turn) * kPiece, kPiece);
    return 2.0 * static_cast<double>(kPiece);
  });
  return peak;
}

}  // namespace longspan::cpu
