// Exports: streams, recordings, and the devices' memory.
#include <algorithm>

#include "cpp/core/time_mark.h"
#include "cpp/napi/exports.h"
#include "cpp/ops/enqueue.h"

namespace longspan::napi {
namespace {

// mark(streamId, id): settles promise `id` once everything enqueued so far has run.
Napi::Value mark(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  Stream* stream = streamOf(e, info[0].As<Napi::Number>().DoubleValue());
  if (stream->capturing()) return code(info, e.fail(capturing("synchronize")));
  const double id = info[1].As<Napi::Number>().DoubleValue();
  Task task;
  task.name = "mark";
  task.done = [completions = e.completions, id, &lane = stream->lane()](const Status&) {
    lane.whenEnded([completions, id](const Status& status) { completions->settle(id, status); });
  };
  e.completions->begin(info.Env(), id, nullptr);
  stream->submit(std::move(task));
  return code(info, 0);
}

Napi::Value synchronizeSync(const Napi::CallbackInfo& info) {
  Stream* stream = streamOf(environmentOf(info), info[0].As<Napi::Number>().DoubleValue());
  if (stream->capturing())
    return code(info, environmentOf(info).fail(capturing("synchronizeSync")));
  const Status status = stream->waitUntilEnded(stream->lastTicket());
  return code(info, status.ok() ? 0 : environmentOf(info).fail(status));
}

// beginCapture(streamId) -> code
Napi::Value beginCapture(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  Stream* stream = streamOf(e, info[0].As<Napi::Number>().DoubleValue());
  if (stream->capturing()) return code(info, e.fail(capturing("capture")));
  stream->beginCapture(std::make_shared<Graph>());
  return code(info, 0);
}

// endCapture(streamId) -> graph id, or -1 - code. Waits until everything is recorded.
Napi::Value endCapture(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  Stream* stream = streamOf(e, info[0].As<Napi::Number>().DoubleValue());
  std::shared_ptr<Graph> graph;
  if (Status status = stream->endCapture(&graph); !status.ok())
    return code(info, -1 - e.fail(std::move(status)));
  e.graphs.push_back(std::move(graph));
  return Napi::Number::New(info.Env(), static_cast<double>(e.graphs.size() - 1));
}

// replay(graphId, streamId) -> code
Napi::Value replay(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  const auto index = static_cast<size_t>(info[0].As<Napi::Number>().DoubleValue());
  const auto stream = streamOf(e, info[1].As<Napi::Number>().DoubleValue())->shared_from_this();
  if (index >= e.graphs.size() || !e.graphs[index]) {
    return code(info, e.fail(Status(Code::disposed, "graph", "a disposed graph",
                                    "Capture it again, or dispose it later")));
  }
  if (stream->capturing()) return code(info, e.fail(capturing("replay")));
  const std::shared_ptr<Graph>& graph = e.graphs[index];
  Task task;
  task.name = "replay";
  task.reads = graph->held;
  for (const std::weak_ptr<Buffer>& buffer : graph->writes) {
    if (BufferRef alive = buffer.lock()) task.writes.push_back(std::move(alive));
  }
  // What a failed run poisoned, the next may make good: only inputs are inherited from.
  std::erase_if(task.reads, [&](const BufferRef& buffer) {
    return std::find(task.writes.begin(), task.writes.end(), buffer) != task.writes.end();
  });
  const std::vector<BufferRef> reads = task.reads, writes = task.writes;
  for (const BufferRef& buffer : reads) orderAfterUses(task, *buffer, stream, false);
  for (const BufferRef& buffer : writes) orderAfterUses(task, *buffer, stream, true);
  const uint64_t ticket = stream->replay(graph, std::move(task));
  for (const BufferRef& buffer : reads) recordUse(*buffer, stream, ticket, false);
  for (const BufferRef& buffer : writes) recordUse(*buffer, stream, ticket, true);
  return code(info, 0);
}

// releaseGraph(graphId): runs already enqueued still happen.
Napi::Value releaseGraph(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  const auto index = static_cast<size_t>(info[0].As<Napi::Number>().DoubleValue());
  if (index < e.graphs.size()) e.graphs[index].reset();
  return info.Env().Undefined();
}

// startTimer(streamId) -> a timer that has the moment when what is enqueued so far ends, or null.
Napi::Value startTimer(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  Stream* stream = streamOf(e, info[0].As<Napi::Number>().DoubleValue());
  if (stream->capturing()) {
    e.fail(capturing("startTimer"));
    return info.Env().Null();
  }
  const std::shared_ptr<TimeMark> begin = timeMarkOf(stream->lane());
  Task task;
  task.name = "startTimer";
  task.run = [begin](Workspace) { return begin->record(); };
  stream->submit(std::move(task));
  using Held = std::shared_ptr<TimeMark>;
  return Napi::External<Held>::New(info.Env(), new Held(begin),
                                   [](Napi::Env, Held* held) { delete held; });
}

// stopTimer(timer, streamId, target, id): settles promise `id` with the seconds since the timer's
// start in `target`, an ArrayBuffer of one f64.
Napi::Value stopTimer(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  const std::shared_ptr<TimeMark> begin =
      *info[0].As<Napi::External<std::shared_ptr<TimeMark>>>().Data();
  Stream* stream = streamOf(e, info[1].As<Napi::Number>().DoubleValue());
  if (stream->capturing()) return code(info, e.fail(capturing("stopTimer")));
  void* const target = info[2].As<Napi::ArrayBuffer>().Data();
  const double id = info[3].As<Napi::Number>().DoubleValue();
  const std::shared_ptr<TimeMark> end = timeMarkOf(stream->lane());
  Task task;
  task.name = "stopTimer";
  task.run = [end](Workspace) { return end->record(); };
  task.done = [completions = e.completions, begin, end, target, id,
               &lane = stream->lane()](const Status& recorded) {
    if (!recorded.ok()) return completions->settle(id, recorded);
    lane.whenEnded([completions, begin, end, target, id](const Status& ended) {
      double seconds = 0;
      const Status status = ended.ok() ? end->since(*begin, &seconds) : ended;
      completions->settle(id, status, target, &seconds, status.ok() ? sizeof seconds : 0);
    });
  };
  e.completions->begin(info.Env(), id, info[2]);
  stream->submit(std::move(task));
  return code(info, 0);
}

Napi::Value pending(const Napi::CallbackInfo& info) {
  Stream* stream = streamOf(environmentOf(info), info[0].As<Napi::Number>().DoubleValue());
  return Napi::Number::New(info.Env(), static_cast<double>(stream->pending()));
}

// openStream(deviceId) -> stream id, or -1 - code.
Napi::Value openStream(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  const double id = info[0].As<Napi::Number>().DoubleValue();
  Device* device = deviceOf(id);
  if (device == nullptr) {
    std::string why;
    cudaDevice(static_cast<int>(id) - 1, &why);
    return code(info, -1 - e.fail(Status(Code::unavailable, "cuda:" + std::to_string(int(id) - 1),
                                         why, "")));
  }
  std::shared_ptr<Lane> lane;
  if (Status status = device->newLane(&lane); !status.ok())
    return code(info, -1 - e.fail(std::move(status)));
  e.streams.push_back(Stream::create(*device, std::move(lane)));
  return Napi::Number::New(info.Env(), static_cast<double>(e.streams.size() - 1));
}

// closeStream(streamId): what is enqueued still runs.
Napi::Value closeStream(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  const auto index = static_cast<size_t>(info[0].As<Napi::Number>().DoubleValue());
  if (Stream* stream = streamOf(e, static_cast<double>(index)); stream != nullptr) {
    stream->finish();
    e.streams[index].reset();
  }
  return info.Env().Undefined();
}

Napi::Value memory(const Napi::CallbackInfo& info) {
  const MemoryCounters m = deviceOf(info[0].As<Napi::Number>().DoubleValue())->memory();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("active", static_cast<double>(m.active));
  out.Set("peak", static_cast<double>(m.peak));
  out.Set("cached", static_cast<double>(m.cached));
  out.Set("limit", static_cast<double>(m.limit));
  out.Set("liveBuffers", static_cast<double>(m.liveBuffers));
  out.Set("tensors", static_cast<double>(environmentOf(info).slots.live()));
  return out;
}

// memoryControl(deviceId, 'limit' | 'resetPeak' | 'emptyCache', bytes?)
Napi::Value memoryControl(const Napi::CallbackInfo& info) {
  Device* device = deviceOf(info[0].As<Napi::Number>().DoubleValue());
  const std::string what = info[1].As<Napi::String>();
  if (what == "limit") device->setLimit(info[2].As<Napi::Number>().Int64Value());
  if (what == "resetPeak") device->resetPeak();
  if (what == "emptyCache") device->emptyCache();
  return info.Env().Undefined();
}

}  // namespace

void exportStreams(const std::function<void(const char* name, Export)>& add) {
  add("mark", mark);
  add("synchronizeSync", synchronizeSync);
  add("beginCapture", beginCapture);
  add("endCapture", endCapture);
  add("replay", replay);
  add("releaseGraph", releaseGraph);
  add("startTimer", startTimer);
  add("stopTimer", stopTimer);
  add("pending", pending);
  add("openStream", openStream);
  add("closeStream", closeStream);
  add("memory", memory);
  add("memoryControl", memoryControl);
}

}  // namespace longspan::napi
