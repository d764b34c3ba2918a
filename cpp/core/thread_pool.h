// One pool per process. A parallel region is a counter that the caller and the workers draw items
// from, so the work of an item never depends on who runs it: results are bit-equal for any number
// of threads as long as each item's arithmetic is fixed.
#pragma once

#include <cstdint>
#include <type_traits>

namespace longspan {

class ThreadPool {
 public:
  // Never destroyed: workers may still run while the process exits.
  static ThreadPool& shared();

  // Workers plus the calling thread; LONGSPAN_NUM_THREADS, else the CPUs this process may use.
  int size() const { return size_; }

  // Threads that take part from the next region on, 1 to size().
  void setActive(int threads);
  int active() const;

  // Calls body(item, thread) for every item in [0, count); thread is in [0, size()). Returns when
  // all are done. A region entered while another runs is executed by the caller alone.
  template <class F>
  void forEach(int64_t count, F&& body) {
    using Body = std::remove_reference_t<F>;
    Region region;
    region.count = count;
    region.body = const_cast<void*>(static_cast<const void*>(&body));
    region.call = [](void* fn, int64_t item, int thread) {
      (*static_cast<Body*>(fn))(item, thread);
    };
    run(region);
  }

  // Calls body(begin, end) over [0, n) in pieces of `grain` (the last one shorter).
  template <class F>
  void forRange(int64_t n, int64_t grain, F&& body) {
    if (n <= 0) return;
    if (grain < 1) grain = 1;
    const int64_t pieces = (n + grain - 1) / grain;
    forEach(pieces, [&](int64_t piece, int) {
      const int64_t begin = piece * grain;
      body(begin, begin + grain < n ? begin + grain : n);
    });
  }

 private:
  struct Region {
    int64_t count = 0;
    int threads = 1;
    void* body = nullptr;
    void (*call)(void*, int64_t, int) = nullptr;
  };

  // What the threads share. In thread_pool.cc: every kernel includes this header, and the standard
  // library's threads take a second to parse.
  struct State;

  explicit ThreadPool(int size);
  void run(const Region& region);

  State& state_;
  const int size_;  // here, since the state's cache lines are written while calls ask for it
};

}  // namespace longspan
