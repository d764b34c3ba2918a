#include "cpp/core/thread_pool.h"

#include <sched.h>

#include <cstdlib>

namespace longspan {
namespace {

int configuredSize() {
  if (const char* text = std::getenv("LONGSPAN_NUM_THREADS")) {
    const long n = std::strtol(text, nullptr, 10);
    if (n >= 1 && n <= 1024) return static_cast<int>(n);
  }
#ifdef __linux__
  cpu_set_t set;  // respects taskset and container limits, unlike hardware_concurrency
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
#endif
  const unsigned n = std::thread::hardware_concurrency();
  return n == 0 ? 1 : static_cast<int>(n);
}

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// About 20 us: operators of one training step follow each other faster than a futex wakes.
constexpr int kSpins = 2000;

}  // namespace

ThreadPool& ThreadPool::shared() {
  static ThreadPool* pool = new ThreadPool(configuredSize());
  return *pool;
}

ThreadPool::ThreadPool(int size) : size_(size), active_(size) {
  for (int thread = 1; thread < size_; ++thread)
    std::thread([this, thread] { work(thread); }).detach();
}

void ThreadPool::drain(const Region& region, std::atomic<int64_t>& next, int thread) {
  for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < region.count;) {
    region.call(region.body, item, thread);
  }
}

void ThreadPool::run(const Region& region) {
  if (region.count <= 0) return;
  std::unique_lock<std::mutex> busy(busy_, std::try_to_lock);
  const int threads = active();
  if (region.count == 1 || threads == 1 || !busy.owns_lock()) {
    std::atomic<int64_t> next{0};
    drain(region, next, 0);
    return;
  }
  region_ = region;
  region_.threads = threads;
  next_.store(0, std::memory_order_relaxed);
  running_.store(size_ - 1, std::memory_order_relaxed);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  drain(region_, next_, 0);
  // Workers finish their last item; yield after a while so that an oversubscribed machine
  // progresses.
  for (int spin = 0; running_.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins) {
      pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    for (int spin = 0; spin < kSpins && generation_.load(std::memory_order_acquire) == seen;
         ++spin) {
      pause();
    }
    if (generation_.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
    }
    seen = generation_.load(std::memory_order_acquire);
    if (thread < region_.threads) drain(region_, next_, thread);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace longspan
