// From a packed call to a task: the one path every operator takes.
#include "cpp/ops/enqueue.h"

#include <utility>

#include "cpp/ops/operator.h"

namespace longspan {
namespace {

class Describer final : public FieldVisitor {
 public:
  std::vector<FieldDescription> found;
  void number(const char* name, double&) override { add(FieldKind::number, name); }
  void integer(const char* name, int64_t&) override { add(FieldKind::integer, name); }
  void flag(const char* name, bool&) override { add(FieldKind::flag, name); }
  void integers(const char* name, std::vector<int64_t>&) override {
    add(FieldKind::integers, name);
  }

 protected:
  bool beginGroup(const char* name, bool&) override {
    add(FieldKind::group, name);
    return true;
  }
  void endGroup(const char* name) override { add(FieldKind::groupEnd, name); }
  void tensor(FieldKind kind, const char* name, TensorView&) override { add(kind, name); }
  void tensors(FieldKind kind, const char* name, TensorList&) override { add(kind, name); }
  void chosen(const char* name, int&, Names names) override {
    found.push_back({FieldKind::choice, name, {names.begin(), names.end()}});
  }

 private:
  void add(FieldKind kind, const char* name) { found.push_back({kind, name, {}}); }
};

class Reader final : public FieldVisitor {
 public:
  explicit Reader(CallFrame& frame) : frame_(frame) {}
  void number(const char*, double& x) override { x = frame_.readNumber(); }
  void integer(const char*, int64_t& x) override { x = static_cast<int64_t>(frame_.readNumber()); }
  void flag(const char*, bool& x) override { x = frame_.readNumber() != 0; }
  void integers(const char*, std::vector<int64_t>& list) override { frame_.readIntegers(list); }

 protected:
  bool beginGroup(const char*, bool& given) override {
    given = frame_.readNumber() != 0;
    return given;
  }
  void tensor(FieldKind kind, const char* name, TensorView& t) override {
    if (!isOutput(kind)) frame_.readTensor(name, t, kind != FieldKind::optional, isInout(kind));
  }
  void tensors(FieldKind kind, const char* name, TensorList& list) override {
    if (!isOutput(kind))
      frame_.readTensors(name, list, isInout(kind), kind == FieldKind::optionalInouts);
  }
  void chosen(const char*, int& index, Names) override {
    index = static_cast<int>(frame_.readNumber());
  }

 private:
  CallFrame& frame_;
};

// Gives outputs their buffers and tells the task, the stream's next, what it reads, writes and
// waits for.
class Collector final : public FieldVisitor {
 public:
  Collector(const std::shared_ptr<Stream>& stream, Task& task) : stream_(stream), task_(task) {}

 protected:
  void tensor(FieldKind kind, const char*, TensorView& t) override {
    if (!t.defined()) return;
    BufferRef ref;
    if (isOutput(kind) && t.buffer == nullptr) {
      ref = std::make_shared<Buffer>(stream_->device(), static_cast<size_t>(t.bytes()));
      t.buffer = ref.get();
    } else {
      ref = t.buffer->shared_from_this();
      orderAfterUses(task_, *ref, stream_, isInout(kind));
    }
    const bool writes = isOutput(kind) || isInout(kind);
    recordUse(*ref, stream_, stream_->lastTicket() + 1, writes);
    if (isInout(kind)) task_.reads.push_back(ref);
    (writes ? task_.writes : task_.reads).push_back(std::move(ref));
  }
  void tensors(FieldKind kind, const char* name, TensorList& list) override {
    for (TensorView& t : list) tensor(kind, name, t);
  }

 private:
  const std::shared_ptr<Stream>& stream_;
  Task& task_;
};

class OutputWriter final : public FieldVisitor {
 public:
  explicit OutputWriter(CallFrame& frame) : frame_(frame) { frame_.beginOutputs(); }

 protected:
  void tensor(FieldKind kind, const char*, TensorView& t) override {
    if (isOutput(kind)) frame_.writeTensor(t, t.defined() ? t.buffer->shared_from_this() : nullptr);
  }
  void tensors(FieldKind kind, const char* name, TensorList& list) override {
    if (!isOutput(kind)) return;
    frame_.writeCount(list.size());
    for (TensorView& t : list) tensor(kind, name, t);
  }

 private:
  CallFrame& frame_;
};

// The first f64 tensor of a call.
class DoubleFinder final : public FieldVisitor {
 public:
  Status found;

 protected:
  void tensor(FieldKind, const char* name, TensorView& t) override {
    if (!found.ok() || !t.defined() || t.dtype != DType::f64) return;
    found = Status(Code::dtype, name, describe(t) + " on a GPU",
                   "f64 is computed on the CPU only: use f32, or tensor.to('cpu')");
  }
  void tensors(FieldKind kind, const char* name, TensorList& list) override {
    for (TensorView& t : list) tensor(kind, name, t);
  }
};

class Binder final : public FieldVisitor {
 protected:
  void tensor(FieldKind, const char*, TensorView& t) override {
    if (t.defined()) t.base = t.buffer->data();
  }
  void tensors(FieldKind kind, const char* name, TensorList& list) override {
    for (TensorView& t : list) tensor(kind, name, t);
  }
};

// What a GPU does not offer is refused by the call, not by the kernel.
Status checkCuda(const char* name, Call& call) {
  if (!call.hasCudaKernel()) {
    return Status(Code::unsupported, "device",
                  "a GPU, where '" + std::string(name) + "' has no kernel",
                  "Move its inputs to the CPU with tensor.to('cpu')");
  }
  if (call.cudaTakesF64()) return {};
  DoubleFinder finder;
  call.fields(finder);
  return finder.found;
}

}  // namespace

void orderAfterUses(Task& task, const Buffer& buffer, const std::shared_ptr<Stream>& stream,
                    bool writes) {
  const auto waitFor = [&](const Event& e) {
    if (e.stream && e.stream != stream && !e.stream->ended(e.ticket)) task.after.push_back(e);
  };
  waitFor(buffer.lastWrite);
  if (writes) {
    for (const Event& e : buffer.lastReads) waitFor(e);
  }
}

void recordUse(Buffer& buffer, const std::shared_ptr<Stream>& stream, uint64_t ticket,
               bool writes) {
  if (writes) {
    if (buffer.lastWrite.stream != stream) buffer.lastWrite.stream = stream;
    buffer.lastWrite.ticket = ticket;
    buffer.lastReads.clear();
    return;
  }
  for (Event& e : buffer.lastReads) {
    if (e.stream == stream) {
      e.ticket = ticket;
      return;
    }
  }
  buffer.lastReads.push_back({stream, ticket});
}

std::vector<FieldDescription> Operator::describe() const {
  Describer describer;
  newCall()->fields(describer);
  return std::move(describer.found);
}

Status Operator::call(CallFrame& frame) const {
  const std::shared_ptr<Call> call = newCall();
  Reader reader(frame);
  call->fields(reader);
  if (!frame.status().ok()) return frame.status();
  LONGSPAN_RETURN_IF_ERROR(call->validate());
  const std::shared_ptr<Stream>& stream = frame.stream();
  Device& device = stream->device();
  if (device.type() == DeviceType::cuda) LONGSPAN_RETURN_IF_ERROR(checkCuda(name, *call));

  Task& task = stream->prepare();
  task.name = frame.called() != nullptr ? frame.called() : name;
  Collector collector(stream, task);
  call->fields(collector);
  OutputWriter outputs(frame);
  call->fields(outputs);

  if (device.type() == DeviceType::cpu) {
    ThreadPool& pool = ThreadPool::shared();
    task.workspaceBytes = call->workspace(pool.size());
    task.run = [&call = *call, &pool](Workspace workspace) {
      Binder binder;
      call.fields(binder);
      cpu::Context context{pool, workspace};
      return call.runOnCpu(context);
    };
  } else {
    task.workspaceBytes = call->cudaWorkspace(*device.gpu());
    task.run = [&call = *call, &lane = stream->lane()](Workspace workspace) {
      Binder binder;
      call.fields(binder);
      return runOnLane(call, lane, workspace);
    };
  }
  task.parameters = call;
  stream->submit();
  return {};
}

}  // namespace longspan
