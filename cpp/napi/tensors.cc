// Exports: tensors made from host data, viewed, written, read, moved between devices.
#include <cstring>
#include <utility>

#include "cpp/napi/exports.h"
#include "cpp/ops/enqueue.h"

namespace longspan::napi {
namespace {

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

}  // namespace

void exportTensors(const std::function<void(const char* name, Export)>& add) {
  add("view", view);
  add("create", create);
  add("write", write);
  add("read", read);
  add("readSync", readSync);
  add("transfer", transfer);
}

}  // namespace longspan::napi
