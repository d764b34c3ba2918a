// The addon's exports. Marshalling only: what they do lives in cpp/core and cpp/ops.
#include <napi.h>

#include <algorithm>
#include <cstring>

#include "cpp/cpu/level.h"
#include "cpp/cpu/peak.h"
#include "cpp/napi/call_frame.h"
#include "cpp/napi/environment.h"
#include "cpp/ops/operator.h"

namespace longspan::napi {
namespace {

Environment& environmentOf(const Napi::CallbackInfo& info) {
  return *static_cast<Environment*>(info.Data());
}

Napi::Value code(const Napi::CallbackInfo& info, int value) {
  return Napi::Number::New(info.Env(), value);
}

Stream* streamOf(Environment& e, double id) {
  const auto index = static_cast<size_t>(id);
  return index < e.streams.size() ? e.streams[index].get() : nullptr;
}

// Device ids in JavaScript: 0 is the CPU, 1 + n is cuda:n.
Device* deviceOf(double id) {
  std::string why;
  return id == 0 ? &cpuDevice() : cudaDevice(static_cast<int>(id) - 1, &why);
}

Status disposed() {
  return Status(Code::disposed, "tensor", "a disposed tensor",
                "Use it before dispose(), return it from tidy(), or retain() it before backward()");
}

Status capturing(const char* what) {
  return Status(Code::value, what, "called while device.capture records",
                "Read results after capture() or replay() has returned");
}

// call(operator) -> code. The hot path: raw Node-API, numbers only.
napi_value callOperator(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result;
  void* data;
  napi_get_cb_info(env, info, &count, &argument, nullptr, &data);
  uint32_t index = 0;
  napi_get_value_uint32(env, argument, &index);
  auto& e = *static_cast<Environment*>(data);
  int32_t code = 0;
  try {
    PackedCall frame(e);
    Status status = frame.status();
    if (status.ok()) status = operators().at(index).call(frame);
    if (!status.ok()) code = e.fail(std::move(status));
    e.afterAllocation();
  } catch (const std::exception& error) {
    code = e.fail(Status(Code::failed, "call", error.what(), "Report this as a bug of longspan"));
  }
  napi_create_int32(env, code, &result);
  return result;
}

// track(handle, object)
napi_value track(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2];
  void* data;
  napi_get_cb_info(env, info, &count, arguments, nullptr, &data);
  double handle = kAbsent;
  napi_get_value_double(env, arguments[0], &handle);
  static_cast<Environment*>(data)->slots.track(env, handle, arguments[1]);
  return nullptr;
}

// release(handle)
napi_value release(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  void* data;
  napi_get_cb_info(env, info, &count, &argument, nullptr, &data);
  double handle = kAbsent;
  napi_get_value_double(env, argument, &handle);
  static_cast<Environment*>(data)->slots.release(env, handle);
  return nullptr;
}

Napi::Value lastError(const Napi::CallbackInfo& info) {
  const Status& status = environmentOf(info).error;
  Napi::Array out = Napi::Array::New(info.Env(), 4);
  if (status.ok()) return out;
  const Status::Detail& d = status.detail();
  out.Set(0u, Napi::Number::New(info.Env(), static_cast<int>(d.code)));
  out.Set(1u, Napi::String::New(info.Env(), d.field));
  out.Set(2u, Napi::String::New(info.Env(), d.value));
  out.Set(3u, Napi::String::New(info.Env(), d.remedy));
  return out;
}

// view() on the call buffer: [handle, offset, rank, dims..., strides...] -> new handle at index 0.
Napi::Value view(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  const double* in = e.call;
  SlotTable::Slot* slot = e.slots.find(in[0]);
  if (slot == nullptr) return code(info, e.fail(disposed()));
  TensorView v = slot->view;
  v.offset = static_cast<int64_t>(in[1]);
  v.rank = static_cast<int8_t>(in[2]);
  int64_t low = v.offset, high = v.offset;
  bool empty = false;
  for (int i = 0; i < v.rank; ++i) {
    v.shape[i] = static_cast<int64_t>(in[3 + i]);
    v.stride[i] = static_cast<int64_t>(in[3 + v.rank + i]);
    if (v.shape[i] == 0) empty = true;
    const int64_t span = (v.shape[i] - 1) * v.stride[i];
    (span < 0 ? low : high) += span;
  }
  const auto capacity = static_cast<int64_t>(slot->buffer->bytes() / sizeOf(v.dtype));
  if (!empty && (low < 0 || high >= capacity)) {
    return code(info, e.fail(Status(Code::shape, "view", describe(v) + " beyond its storage",
                                    "Report this as a bug of longspan")));
  }
  const BufferRef buffer = slot->buffer;  // `slot` may move when the table grows
  e.call[0] = e.slots.add(v, buffer);
  e.afterAllocation();
  return code(info, 0);
}

std::pair<std::byte*, size_t> bytesOf(const Napi::Value& value) {
  if (value.IsTypedArray()) {
    const auto array = value.As<Napi::TypedArray>();
    return {static_cast<std::byte*>(array.ArrayBuffer().Data()) + array.ByteOffset(),
            array.ByteLength()};
  }
  auto buffer = value.As<Napi::ArrayBuffer>();
  return {static_cast<std::byte*>(buffer.Data()), buffer.ByteLength()};
}

// Enqueues the copy of host data, which is free on return, into `buffer` from byte `offset` on.
Status upload(const char* name, Stream& stream, const BufferRef& buffer, size_t offset,
              const std::byte* from, size_t bytes) {
  HostBlock staged;
  LONGSPAN_RETURN_IF_ERROR(stream.device().hostBlock(bytes, &staged));
  if (bytes > 0) std::memcpy(staged.get(), from, bytes);
  const auto self = stream.shared_from_this();
  Task task;
  task.name = name;
  task.writes.push_back(buffer);
  orderAfterUses(task, *buffer, self, true);
  // A write to a part must not clear the poison of the rest.
  if (bytes < buffer->bytes()) task.reads.push_back(buffer);
  task.run = [staged, target = buffer.get(), offset, bytes, &lane = stream.lane()](Workspace) {
    return lane.upload(target->data() + offset, staged, bytes);
  };
  const uint64_t ticket = stream.submit(std::move(task));
  recordUse(*buffer, self, ticket, true);
  return {};
}

// create(data) with [stream id, dtype, rank, dims...] in the call buffer -> handle at index 0.
// Host data is copied before the call returns.
Napi::Value create(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  Stream* stream = streamOf(e, e.call[0]);
  const auto dtype = static_cast<DType>(static_cast<int>(e.call[1]));
  const int rank = static_cast<int>(e.call[2]);
  int64_t dims[kMaxRank];
  for (int i = 0; i < rank; ++i) dims[i] = static_cast<int64_t>(e.call[3 + i]);
  const TensorView v = TensorView::ofShape(dtype, dims, rank);
  const auto [source, bytes] = bytesOf(info[0]);
  if (static_cast<int64_t>(bytes) != v.bytes()) {
    return code(info, e.fail(Status(Code::shape, "data", std::to_string(bytes) + " bytes",
                                    "It must have " + std::to_string(v.bytes()) + " bytes for " +
                                        describe(v))));
  }
  const auto buffer = std::make_shared<Buffer>(stream->device(), bytes);
  if (stream->lane().immediate()) {
    if (Status status = buffer->materialise(stream->lane().memory()); !status.ok())
      return code(info, e.fail(std::move(status)));
    if (bytes > 0) std::memcpy(buffer->data(), source, bytes);
  } else if (Status status = upload("create", *stream, buffer, 0, source, bytes); !status.ok()) {
    return code(info, e.fail(std::move(status)));
  }
  e.call[0] = e.slots.add(v, buffer);
  e.afterAllocation();
  return code(info, 0);
}

// write(handle, data, streamId): overwrites a contiguous tensor in stream order.
Napi::Value write(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  SlotTable::Slot* slot = e.slots.find(info[0].As<Napi::Number>().DoubleValue());
  if (slot == nullptr) return code(info, e.fail(disposed()));
  Stream* stream = streamOf(e, info[2].As<Napi::Number>().DoubleValue());
  const TensorView v = slot->view;
  const auto [source, bytes] = bytesOf(info[1]);
  if (static_cast<int64_t>(bytes) != v.bytes() || !v.contiguous()) {
    return code(info, e.fail(Status(Code::shape, "data", std::to_string(bytes) + " bytes",
                                    "It must have " + std::to_string(v.bytes()) + " bytes for " +
                                        describe(v) + ", which must be contiguous")));
  }
  const auto offset = static_cast<size_t>(v.offset) * sizeOf(v.dtype);
  const Status status = upload("write", *stream, slot->buffer, offset, source, bytes);
  return code(info, status.ok() ? 0 : e.fail(status));
}

// read(handle, arrayBuffer, streamId, id): copies a contiguous tensor out; settles promise `id`.
Napi::Value read(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  SlotTable::Slot* slot = e.slots.find(info[0].As<Napi::Number>().DoubleValue());
  if (slot == nullptr) return code(info, e.fail(disposed()));
  Stream* stream = streamOf(e, info[2].As<Napi::Number>().DoubleValue());
  if (stream->capturing()) return code(info, e.fail(capturing("data")));
  const double id = info[3].As<Napi::Number>().DoubleValue();
  const TensorView v = slot->view;
  void* target = info[1].As<Napi::ArrayBuffer>().Data();
  Task task;
  task.name = "read";
  task.reads.push_back(slot->buffer);
  orderAfterUses(task, *slot->buffer, stream->shared_from_this(), false);
  const auto bytes = static_cast<size_t>(v.bytes());
  task.done = [completions = e.completions, id, target, v, bytes,
               &lane = stream->lane()](const Status& ran) {
    if (!ran.ok()) return completions->settle(id, ran);
    const std::byte* from = v.buffer->data() + v.offset * static_cast<int64_t>(sizeOf(v.dtype));
    lane.read(from, bytes,
              [completions, id, target, bytes](const Status& status, const std::byte* source) {
                completions->settle(id, status, target, source, bytes);
              });
  };
  e.completions->begin(info.Env(), id, info[1]);
  Buffer& buffer = *slot->buffer;
  const uint64_t ticket = stream->submit(std::move(task));
  recordUse(buffer, stream->shared_from_this(), ticket, false);
  return code(info, 0);
}

// readSync(handle, arrayBuffer): blocks this thread until the tensor is there.
Napi::Value readSync(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  SlotTable::Slot* slot = e.slots.find(info[0].As<Napi::Number>().DoubleValue());
  if (slot == nullptr) return code(info, e.fail(disposed()));
  for (const auto& stream : e.streams) {
    if (stream && stream->capturing() && &stream->device() == &slot->buffer->device())
      return code(info, e.fail(capturing("dataSync")));
  }
  const Event event = slot->buffer->lastWrite;
  if (event.stream) event.stream->waitUntilRan(event.ticket);
  if (!slot->buffer->poison().ok()) return code(info, e.fail(slot->buffer->poison()));
  if (event.stream) {
    if (Status status = event.stream->waitUntilEnded(event.ticket); !status.ok())
      return code(info, e.fail(std::move(status)));
  }
  const TensorView& v = slot->view;
  const std::byte* from = slot->buffer->data() + v.offset * static_cast<int64_t>(sizeOf(v.dtype));
  auto* target = static_cast<std::byte*>(info[1].As<Napi::ArrayBuffer>().Data());
  const auto bytes = static_cast<size_t>(v.bytes());
  if (event.stream) {
    const Status status = event.stream->lane().download(target, from, bytes);
    return code(info, status.ok() ? 0 : e.fail(status));
  }
  if (bytes > 0) std::memcpy(target, from, bytes);  // host data that no stream has touched
  return code(info, 0);
}

// transfer(handle, streamId, deviceId) -> a contiguous tensor's copy on another device, its handle
// at index 0. The stream is the GPU's; between two GPUs the target's.
Napi::Value transfer(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  SlotTable::Slot* slot = e.slots.find(info[0].As<Napi::Number>().DoubleValue());
  if (slot == nullptr) return code(info, e.fail(disposed()));
  const auto stream = streamOf(e, info[1].As<Napi::Number>().DoubleValue())->shared_from_this();
  Device* device = deviceOf(info[2].As<Napi::Number>().DoubleValue());
  if (stream->capturing() && device->type() == DeviceType::cpu)
    return code(info, e.fail(capturing("to")));
  const TensorView v = slot->view;
  const auto bytes = static_cast<size_t>(v.bytes());
  const BufferRef from = slot->buffer;
  const auto to = std::make_shared<Buffer>(*device, bytes);
  Task task;
  task.name = "to";
  task.reads.push_back(from);
  task.writes.push_back(to);
  orderAfterUses(task, *from, stream, false);
  task.run = [source = from.get(), target = to.get(), v, bytes, &lane = stream->lane()](Workspace) {
    const std::byte* first = source->data() + v.offset * static_cast<int64_t>(sizeOf(v.dtype));
    return target->device().type() == DeviceType::cpu ? lane.download(target->data(), first, bytes)
                                                      : lane.upload(target->data(), first, bytes);
  };
  const uint64_t ticket = stream->submit(std::move(task));
  recordUse(*from, stream, ticket, false);
  recordUse(*to, stream, ticket, true);
  e.call[0] = e.slots.add(TensorView::like(v), to);
  e.afterAllocation();
  return code(info, 0);
}

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

// setThreads(n) -> threads that take part from now on
Napi::Value setThreads(const Napi::CallbackInfo& info) {
  ThreadPool& pool = ThreadPool::shared();
  pool.setActive(info[0].As<Napi::Number>().Int32Value());
  return Napi::Number::New(info.Env(), pool.active());
}

// peak(threads, seconds) -> [FLOPs, bytes copied] per second, measured while this thread waits
Napi::Value peak(const Napi::CallbackInfo& info) {
  const cpu::Peak measured = cpu::measurePeak(info[0].As<Napi::Number>().Int32Value(),
                                              info[1].As<Napi::Number>().DoubleValue());
  Napi::Array out = Napi::Array::New(info.Env(), 2);
  out.Set(0u, Napi::Number::New(info.Env(), measured.flops));
  out.Set(1u, Napi::Number::New(info.Env(), measured.bytes));
  return out;
}

Napi::Value sweep(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  return Napi::Number::New(info.Env(), e.slots.sweep(e.env));
}

Napi::Value describeOperators(const Napi::CallbackInfo& info) {
  static constexpr const char* kKinds[] = {
      "input",   "optional", "inputs", "inout",    "inouts", "optionalInouts", "number",
      "integer", "flag",     "choice", "integers", "output", "outputs"};
  const Napi::Env env = info.Env();
  Napi::Array list = Napi::Array::New(env);
  uint32_t i = 0;
  for (const Operator& op : operators()) {
    Napi::Array fields = Napi::Array::New(env);
    uint32_t j = 0;
    for (const FieldDescription& f : op.describe()) {
      Napi::Object field = Napi::Object::New(env);
      field.Set("kind", kKinds[static_cast<int>(f.kind)]);
      field.Set("name", f.name);
      if (f.kind == FieldKind::choice) {
        Napi::Array choices = Napi::Array::New(env);
        for (size_t k = 0; k < f.choices.size(); ++k)
          choices.Set(static_cast<uint32_t>(k), f.choices[k]);
        field.Set("choices", choices);
      }
      fields.Set(j++, field);
    }
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", op.name);
    entry.Set("fields", fields);
    list.Set(i++, entry);
  }
  return list;
}

Napi::Value info(const Napi::CallbackInfo& info) {
  std::string cuda;
  cudaDevice(0, &cuda);
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("threads", ThreadPool::shared().size());
  out.Set("cpuLevel", cpu::levelName());
  out.Set("cuda", cuda);
  return out;
}

// start(onSettled) -> the call buffer as Float64Array, once per loaded copy of the library.
Napi::Value start(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  auto array = Napi::Float64Array::New(info.Env(), Environment::kCallDoubles);
  e.call = array.Data();
  napi_create_reference(info.Env(), array, 1, &e.callRef);
  e.completions = Completions::create(info.Env(), info[0]);
  if (!e.completions) return array;
  // Hooks run last first: this one precedes the end of the thread-safe function, which a stream
  // thread might otherwise call while it is being torn down. The hook holds the completions itself:
  // module systems that load the library anew over one addon (Jest's) start it several times.
  auto* held = new std::shared_ptr<Completions>(e.completions);
  napi_add_env_cleanup_hook(
      info.Env(),
      [](void* data) {
        const std::unique_ptr<std::shared_ptr<Completions>> completions(
            static_cast<std::shared_ptr<Completions>*>(data));
        (*completions)->close();
      },
      held);
  return array;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  Environment* e = Environment::create(env);
  const auto add = [&](const char* name, Napi::Value (*function)(const Napi::CallbackInfo&)) {
    exports.Set(name, Napi::Function::New(env, function, name, e));
  };
  const auto addRaw = [&](const char* name, napi_callback function) {
    napi_value value;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, function, e, &value);
    exports.Set(name, Napi::Value(env, value));
  };
  addRaw("call", callOperator);
  addRaw("track", track);
  addRaw("release", release);
  add("start", start);
  add("lastError", lastError);
  add("view", view);
  add("create", create);
  add("write", write);
  add("read", read);
  add("readSync", readSync);
  add("transfer", transfer);
  add("beginCapture", beginCapture);
  add("endCapture", endCapture);
  add("replay", replay);
  add("releaseGraph", releaseGraph);
  add("mark", mark);
  add("synchronizeSync", synchronizeSync);
  add("pending", pending);
  add("openStream", openStream);
  add("closeStream", closeStream);
  add("memory", memory);
  add("memoryControl", memoryControl);
  add("setThreads", setThreads);
  add("peak", longspan::napi::peak);
  add("sweep", sweep);
  add("describe", describeOperators);
  add("info", longspan::napi::info);
  return exports;
}

}  // namespace
}  // namespace longspan::napi

static Napi::Object initLongspan(Napi::Env env, Napi::Object exports) {
  return longspan::napi::init(env, exports);
}
NODE_API_MODULE(longspan, initLongspan)
