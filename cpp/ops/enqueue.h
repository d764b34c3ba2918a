// From a packed call to a task: the one path every operator takes.
#pragma once

#include <utility>

#include "cpp/ops/operator.h"

namespace longspan {

class CallFrame {
 public:
  virtual ~CallFrame() = default;

  // Reading, in field order. A stale handle or an absent required tensor is kept as the first error.
  virtual void readTensor(const char* name, TensorView& out, bool required, bool writes) = 0;
  virtual void readTensors(const char* name, TensorList& out, bool writes, bool mayBeEmpty) = 0;
  virtual double readNumber() = 0;
  virtual void readIntegers(std::vector<int64_t>& out) = 0;
  virtual const Status& status() const = 0;

  virtual Stream& stream() = 0;
  virtual std::shared_ptr<Stream> streamRef() = 0;

  // A buffer for an output; the frame keeps the reference until it is bound to a handle.
  virtual BufferRef newBuffer(size_t bytes) = 0;
  virtual BufferRef refOf(const TensorView& view) = 0;
  // Writes an output (or its absence) for TypeScript, in field order.
  virtual void writeTensor(const TensorView& view, const BufferRef& buffer) = 0;
  virtual void beginOutputs() = 0;
  virtual void writeCount(size_t n) = 0;
};

namespace detail {

class Reader {
 public:
  explicit Reader(CallFrame& frame) : frame_(frame) {}
  void input(const char* n, TensorView& t) { frame_.readTensor(n, t, true, false); }
  void optional(const char* n, TensorView& t) { frame_.readTensor(n, t, false, false); }
  void inputs(const char* n, TensorList& l) { frame_.readTensors(n, l, false, false); }
  void inout(const char* n, TensorView& t) { frame_.readTensor(n, t, true, true); }
  void inouts(const char* n, TensorList& l) { frame_.readTensors(n, l, true, false); }
  void optionalInouts(const char* n, TensorList& l) { frame_.readTensors(n, l, true, true); }
  void number(const char*, double& x) { x = frame_.readNumber(); }
  void integer(const char*, int64_t& x) { x = static_cast<int64_t>(frame_.readNumber()); }
  void flag(const char*, bool& x) { x = frame_.readNumber() != 0; }
  void integers(const char*, std::vector<int64_t>& l) { frame_.readIntegers(l); }
  template <class E>
  void choice(const char*, E& x, const std::vector<std::string>&) {
    x = static_cast<E>(static_cast<int>(frame_.readNumber()));
  }
  void output(const char*, TensorView&) {}
  void outputs(const char*, TensorList&) {}

 private:
  CallFrame& frame_;
};

class OutputWriter {
 public:
  explicit OutputWriter(CallFrame& frame) : frame_(frame) { frame_.beginOutputs(); }
  template <class T>
  void input(const char*, T&) {}
  void optional(const char*, TensorView&) {}
  void inputs(const char*, TensorList&) {}
  void inout(const char*, TensorView&) {}
  void inouts(const char*, TensorList&) {}
  void optionalInouts(const char*, TensorList&) {}
  void number(const char*, double&) {}
  void integer(const char*, int64_t&) {}
  void flag(const char*, bool&) {}
  void integers(const char*, std::vector<int64_t>&) {}
  template <class E>
  void choice(const char*, E&, const std::vector<std::string>&) {}
  void output(const char*, TensorView& t) { write(t); }
  void outputs(const char*, TensorList& list) {
    frame_.writeCount(list.size());
    for (TensorView& t : list) write(t);
  }

 private:
  void write(TensorView& t) { frame_.writeTensor(t, t.defined() ? frame_.refOf(t) : nullptr); }
  CallFrame& frame_;
};

// Orders the task after the uses of `buffer` in other streams and records this use.
inline void orderAfterUses(Task& task, Buffer& buffer, const std::shared_ptr<Stream>& stream, bool writes) {
  const auto waitFor = [&](const Event& e) {
    if (e.stream && e.stream != stream && !e.stream->finished(e.ticket)) task.after.push_back(e);
  };
  waitFor(buffer.lastWrite);
  if (writes) {
    for (const Event& e : buffer.lastReads) waitFor(e);
  }
}

inline void recordUse(Buffer& buffer, const std::shared_ptr<Stream>& stream, uint64_t ticket, bool writes) {
  if (writes) {
    buffer.lastWrite = {stream, ticket};
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

}  // namespace detail

template <class P>
class TypedOperator final : public Operator {
 public:
  explicit TypedOperator(CpuKernel<P> kernel) : cpu_(kernel) {}

  const char* name() const override { return P::name; }

  std::vector<FieldDescription> describe() const override {
    P params{};
    FieldDescriber describer;
    params.fields(describer);
    return std::move(describer.fields);
  }

  Status call(CallFrame& frame) const override {
    P params{};
    detail::Reader reader(frame);
    params.fields(reader);
    if (!frame.status().ok()) return frame.status();
    LONGSPAN_RETURN_IF_ERROR(params.validate());

    Task task;
    task.name = P::name;
    const std::shared_ptr<Stream> stream = frame.streamRef();
    // Collected first, so that a buffer read twice is recorded after its task has a ticket.
    struct Use {
      Buffer* buffer;
      bool writes;
    };
    std::vector<Use> uses;
    TensorVisitor collect([&](TensorView& t, bool reads, bool writes, bool fresh) {
      BufferRef ref;
      if (fresh && t.buffer == nullptr) {
        ref = frame.newBuffer(static_cast<size_t>(t.bytes()));
        t.buffer = ref.get();
      } else {
        ref = frame.refOf(t);
        detail::orderAfterUses(task, *ref, stream, writes);
      }
      uses.push_back({ref.get(), writes});
      if (writes) task.writes.push_back(ref);
      if (reads) task.reads.push_back(std::move(ref));
    });
    params.fields(collect);

    detail::OutputWriter outputs(frame);
    params.fields(outputs);

    ThreadPool& pool = ThreadPool::shared();
    task.workspaceBytes = workspaceOf(params, pool.size());
    task.run = [params = std::move(params), kernel = cpu_, &pool](Workspace workspace) mutable {
      TensorVisitor bind([](TensorView& t, bool, bool, bool) { t.base = t.buffer->data(); });
      params.fields(bind);
      cpu::Context context{pool, workspace};
      return kernel(params, context);
    };
    const uint64_t ticket = stream->submit(std::move(task));
    for (const Use& use : uses) detail::recordUse(*use.buffer, stream, ticket, use.writes);
    return {};
  }

 private:
  const CpuKernel<P> cpu_;
};

struct OperatorRegistrar {
  explicit OperatorRegistrar(std::unique_ptr<Operator> op) { addOperator(std::move(op)); }
};

}  // namespace longspan

#define LONGSPAN_OPERATOR(Params, kernel)                                       \
  static const ::longspan::OperatorRegistrar registrar_##Params {               \
    std::make_unique<::longspan::TypedOperator<Params>>(&::longspan::cpu::kernel) \
  }
