// The addon: calls of operators, what describes them, and the start of an environment. Marshalling
// only: what the exports do lives in cpp/core and cpp/ops.
#include "cpp/cpu/level.h"
#include "cpp/cpu/peak.h"
#include "cpp/napi/call_frame.h"
#include "cpp/napi/exports.h"
#include "cpp/ops/cublaslt_state.h"
#include "cpp/ops/operator.h"

namespace longspan::napi {
namespace {

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

// nameId(name) -> the number that a packed call gives to be known by this name in late errors
Napi::Value nameIdOf(const Napi::CallbackInfo& info) {
  const std::string name = info[0].As<Napi::String>();
  return Napi::Number::New(info.Env(), static_cast<double>(nameId(name)));
}

Napi::Value sweep(const Napi::CallbackInfo& info) {
  Environment& e = environmentOf(info);
  return Napi::Number::New(info.Env(), e.slots.sweep(e.env));
}

Napi::Value describeOperators(const Napi::CallbackInfo& info) {
  static constexpr const char* kKinds[] = {
      "input", "optional", "inputs",   "inout", "inouts",   "optionalInouts", "number", "integer",
      "flag",  "choice",   "integers", "group", "groupEnd", "output",         "outputs"};
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

// Apart from info(): it loads the library where it is asked for.
Napi::Value cublasLt(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), cublasLtState());
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
  exportTensors(add);
  exportStreams(add);
  add("lastError", lastError);
  add("setThreads", setThreads);
  add("peak", longspan::napi::peak);
  add("nameId", nameIdOf);
  add("sweep", sweep);
  add("describe", describeOperators);
  add("info", longspan::napi::info);
  add("cublasLt", longspan::napi::cublasLt);
  return exports;
}

}  // namespace
}  // namespace longspan::napi

static Napi::Object initLongspan(Napi::Env env, Napi::Object exports) {
  return longspan::napi::init(env, exports);
}
NODE_API_MODULE(longspan, initLongspan)
