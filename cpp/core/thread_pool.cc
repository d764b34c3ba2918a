#include "cpp/core/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

#include "cpp/core/pause.h"

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

// About 20 us: operators of one training step follow each other faster than a futex wakes.
constexpr int kPoolSpins = 2000;

}  // namespace

struct ThreadPool::State {
  explicit State(int threads) : size(threads), active(threads) {}

  static void drain(const Region& region, std::atomic<int64_t>& next, int thread);
  void run(const Region& whole);
  void work(int thread);

  const int size;
  std::atomic<int> active;
  std::mutex busy;   // one region at a time
  std::mutex mutex;  // guards sleeping
  std::condition_variable wake;
  std::atomic<uint64_t> generation{0};
  std::atomic<int> running{0};
  std::atomic<int64_t> next{0};
  Region region;
};

ThreadPool& ThreadPool::shared() {
  static ThreadPool* pool = new ThreadPool(configuredSize());
  return *pool;
}

ThreadPool::ThreadPool(int size) : state_(*new State(size)), size_(size) {
  for (int thread = 1; thread < size; ++thread)
    std::thread([&state = state_, thread] { state.work(thread); }).detach();
}

void ThreadPool::setActive(int threads) {
  state_.active.store(threads < 1 ? 1 : threads < state_.size ? threads : state_.size);
}

int ThreadPool::active() const { return state_.active.load(std::memory_order_relaxed); }

void ThreadPool::run(const Region& region) { state_.run(region); }

void ThreadPool::State::drain(const Region& region, std::atomic<int64_t>& next, int thread) {
  for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < region.count;) {
    region.call(region.body, item, thread);
  }
}

void ThreadPool::State::run(const Region& whole) {
  if (whole.count <= 0) return;
  std::unique_lock<std::mutex> alone(busy, std::try_to_lock);
  const int threads = active.load(std::memory_order_relaxed);
  if (whole.count == 1 || threads == 1 || !alone.owns_lock()) {
    std::atomic<int64_t> first{0};
    drain(whole, first, 0);
    return;
  }
  region = whole;
  region.threads = threads;
  next.store(0, std::memory_order_relaxed);
  running.store(size - 1, std::memory_order_relaxed);
  {
    std::lock_guard<std::mutex> lock(mutex);
    generation.fetch_add(1, std::memory_order_release);
  }
  wake.notify_all();
  drain(region, next, 0);
  // Workers finish their last item; yield after a while so that an oversubscribed machine
  // progresses.
  for (int spin = 0; running.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kPoolSpins) {
      pauseCpu();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::State::work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    for (int spin = 0; spin < kPoolSpins && generation.load(std::memory_order_acquire) == seen;
         ++spin) {
      pauseCpu();
    }
    if (generation.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(mutex);
      wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen; });
    }
    seen = generation.load(std::memory_order_acquire);
    if (thread < region.threads) drain(region, next, thread);
    running.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace longspan
