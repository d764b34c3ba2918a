#include "cpp/core/stream.h"

#include <algorithm>
#include <exception>
#include <new>
#include <thread>

#include "cpp/core/host_allocator.h"
#include "cpp/core/pause.h"

namespace longspan {
namespace {

// About 20 us before the thread sleeps: operators usually arrive faster than a futex wakes.
constexpr int kStreamSpins = 1000;

constexpr char kReplay[] = "replay";

// A task in the ring keeps room for as many buffers as operators have tensors; lists of an
// optimizer are let go.
constexpr size_t kKeptBuffers = 16;

// Run-time failures carry the operator's name; out of memory keeps its sizes, a lost GPU its code.
Status named(const char* name, const Status& status) {
  const Status::Detail& d = status.detail();
  if (d.code == Code::outOfMemory || d.code == Code::lost)
    return Status(d.code, name, d.value, d.remedy);
  return Status(Code::failed, name, d.field.empty() ? d.value : d.field + ": " + d.value, d.remedy);
}

}  // namespace

std::shared_ptr<Stream> Stream::create(Device& device, std::shared_ptr<Lane> lane) {
  std::shared_ptr<Stream> stream(new Stream(device, std::move(lane)));
  stream->ring_.resize(kCapacity);
  std::thread([stream] { stream->loop(); }).detach();
  return stream;
}

void Task::clear() {
  name = "";
  for (auto* list : {&reads, &writes}) {
    list->clear();
    if (list->capacity() > kKeptBuffers) *list = {};
  }
  after.clear();
  workspaceBytes = 0;
  run = nullptr;
  done = nullptr;
}

Task& Stream::prepare() {
  if (pending() >= kCapacity) {
    // Sleep until half is done: waking for every freed place would cost a context switch per task.
    std::unique_lock<std::mutex> lock(mutex_);
    producerSleeps_ = true;
    notFull_.wait(lock, [&] { return pending() <= kCapacity / 2; });
    producerSleeps_ = false;
  }
  for (const uint64_t end = completed_.load(std::memory_order_acquire); freed_ < end; ++freed_)
    ring_[freed_ % kCapacity]->parameters.reset();
  std::unique_ptr<Task>& place = ring_[lastTicket() % kCapacity];
  if (!place) place = std::make_unique<Task>();
  place->clear();  // of a call that failed half-way
  return *place;
}

uint64_t Stream::submit() {
  const uint64_t ticket = lastTicket() + 1;
  submitted_.store(ticket);
  // The next place was last written by the other thread: fetched while the next call is made.
  __builtin_prefetch(ring_[ticket % kCapacity].get(), 1);
  // One wake per sleep: what is submitted while the thread gets up costs nothing more.
  if (consumerSleeps_.load() && consumerSleeps_.exchange(false)) {
    std::lock_guard<std::mutex> lock(mutex_);
    notEmpty_.notify_one();
  }
  return ticket;
}

void Stream::waitUntilRan(uint64_t ticket) {
  for (int spin = 0; spin < kStreamSpins; ++spin) {
    if (ran(ticket) || orphaned_) return;
    pauseCpu();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  ++waiters_;
  progressed_.wait(lock, [&] { return completed_.load() >= ticket || orphaned_; });
  --waiters_;
}

Status Stream::waitUntilEnded(uint64_t ticket) {
  waitUntilRan(ticket);
  return lane_->immediate() ? Status() : lane_->synchronize();
}

void Stream::finish() {
  std::lock_guard<std::mutex> lock(mutex_);
  finishing_ = true;
  notEmpty_.notify_all();
}

void Stream::orphan() {
  std::lock_guard<std::mutex> lock(mutex_);
  orphaned_ = true;
  notEmpty_.notify_all();
  progressed_.notify_all();
}

Status Stream::execute(Task& task) {
  for (const Event& event : task.after) {
    event.stream->waitUntilRan(event.ticket);
    if (!event.stream->lane().immediate()) {
      if (Status status = lane_->waitFor(event.stream->lane()); !status.ok())
        return named(task.name, status);
    }
  }
  for (const BufferRef& buffer : task.reads) {
    if (!buffer->poison().ok()) return buffer->poison();
  }
  const std::shared_ptr<MemorySource> memory = lane_->memory();
  for (const BufferRef& buffer : task.writes) {
    if (Status status =
            buffer->materialise(&buffer->device() == &device_ ? memory : hostDevice().source());
        !status.ok())
      return named(task.name, status);
  }
  Workspace workspace{nullptr, task.workspaceBytes};
  if (task.workspaceBytes > 0) {
    void* data = nullptr;
    if (Status status = memory->allocate(task.workspaceBytes, &data); !status.ok()) {
      return named(task.name, status);
    }
    workspace.data = static_cast<std::byte*>(data);
  }
  Status status;
  try {
    if (task.run) status = task.run(workspace);
  } catch (const std::bad_alloc&) {
    status =
        Status(Code::outOfMemory, "", "host memory ran out", "Use smaller batches or sequences");
  } catch (const std::exception& error) {
    status = Status(Code::failed, "", error.what(), "Report this as a bug of longspan");
  }
  if (!lane_->immediate()) noteUses(task, memory.get());
  if (workspace.data != nullptr) memory->free(workspace.data, workspace.bytes);
  // The step of a replay that failed has its name already.
  if (status.ok() || (task.name == kReplay && !status.detail().field.empty())) return status;
  return named(task.name, status);
}

// Memory of another order must not return there before this lane is done with it.
void Stream::noteUses(const Task& task, const MemorySource* memory) {
  for (const auto* list : {&task.reads, &task.writes}) {
    for (const BufferRef& buffer : *list) {
      if (buffer->source() != memory && &buffer->device() == &device_) buffer->addUser(lane_);
    }
  }
}

void Stream::beginCapture(std::shared_ptr<Graph> graph) {
  capture_ = graph;
  Task task;
  task.name = "capture";
  task.done = [this, graph](const Status&) {
    recording_ = graph;
    if (!lane_->immediate()) graph->failure = lane_->beginCapture();
  };
  submit(std::move(task));
}

Status Stream::endCapture(std::shared_ptr<Graph>* out) {
  const std::shared_ptr<Graph> graph = std::move(capture_);
  capture_ = nullptr;
  Task task;
  task.name = "capture";
  task.done = [this, graph](const Status&) {
    recording_ = nullptr;
    if (lane_->immediate()) return;
    const Status status = lane_->endCapture(&graph->launchable);
    if (graph->failure.ok()) graph->failure = status;
  };
  waitUntilRan(submit(std::move(task)));
  if (graph->failure.ok()) *out = graph;
  return graph->failure;
}

// Stream's thread: keeps what the task needs to run again.
void Stream::record(Task& task, const Status& status) {
  Graph& graph = *recording_;
  if (!status.ok()) {
    if (graph.failure.ok()) graph.failure = status;
    return;
  }
  const MemorySource* memory = lane_->memory().get();
  const auto hold = [&](const BufferRef& b) { return lane_->immediate() || b->source() != memory; };
  for (const BufferRef& buffer : task.reads) graph.note(buffer, false, hold(buffer));
  for (const BufferRef& buffer : task.writes) graph.note(buffer, true, hold(buffer));
  if (lane_->immediate() && task.run) {
    graph.steps.push_back(
        {task.name, task.workspaceBytes, std::move(task.run), std::move(task.parameters)});
  }
}

uint64_t Stream::replay(const std::shared_ptr<Graph>& graph, Task task) {
  task.name = kReplay;
  for (const Graph::Step& step : graph->steps) {
    task.workspaceBytes = std::max(task.workspaceBytes, step.workspaceBytes);
  }
  task.run = [graph, this](Workspace workspace) {
    if (graph->launchable) return lane_->launch(*graph->launchable);
    for (const Graph::Step& step : graph->steps) {
      if (Status status = step.run({workspace.data, step.workspaceBytes}); !status.ok()) {
        return named(step.name, status);
      }
    }
    return Status();
  };
  return submit(std::move(task));
}

// The next task, or null when there will be none.
Task* Stream::next() {
  const uint64_t ticket = completed_.load(std::memory_order_relaxed);
  const auto waiting = [&] { return submitted_.load() > ticket; };
  for (int spin = 0; spin < kStreamSpins && !waiting(); ++spin) pauseCpu();
  if (!waiting()) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      consumerSleeps_ = true;
      if (waiting() || finishing_ || orphaned_) break;
      notEmpty_.wait(lock);
    }
    consumerSleeps_ = false;
  }
  return orphaned_ || !waiting() ? nullptr : ring_[ticket % kCapacity].get();
}

void Stream::loop() {
  lane_->attach();
  while (Task* task = next()) {
    const Status status = execute(*task);
    if (recording_) record(*task, status);
    // Success also clears the poison of a buffer that was overwritten whole.
    for (const BufferRef& buffer : task->writes) buffer->setPoison(status);
    if (task->done) task->done(status);
    task->clear();  // references go before the event fires, so that memory() after a wait is exact
    completed_.fetch_add(1);
    if (producerSleeps_.load() && pending() <= kCapacity / 2) {
      std::lock_guard<std::mutex> lock(mutex_);
      notFull_.notify_one();
    }
    if (waiters_.load() > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      progressed_.notify_all();
    }
  }
  ring_.clear();  // an orphan's tasks, with the buffers they hold
}

}  // namespace longspan
