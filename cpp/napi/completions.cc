#include "cpp/napi/completions.h"

#include <cstring>

namespace longspan::napi {

std::shared_ptr<Completions> Completions::create(napi_env env, napi_value onSettled) {
  auto self = std::make_shared<Completions>();
  napi_value name;
  napi_create_string_utf8(env, "longspan", NAPI_AUTO_LENGTH, &name);
  if (napi_create_threadsafe_function(env, onSettled, nullptr, name, 0, 1, nullptr, nullptr,
                                      self.get(), deliver, &self->function_) != napi_ok) {
    return nullptr;
  }
  napi_unref_threadsafe_function(env, self->function_);
  return self;
}

void Completions::begin(napi_env env, double id, napi_value target) {
  napi_ref ref = nullptr;
  if (target != nullptr) napi_create_reference(env, target, 1, &ref);
  if (targets_.empty()) napi_ref_threadsafe_function(env, function_);
  targets_.emplace(id, ref);
}

void Completions::settle(double id, const Status& status, void* target, const void* source,
                         size_t bytes) {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  if (!open_) return;
  if (status.ok() && bytes > 0) std::memcpy(target, source, bytes);
  auto* result = new Result{id, status};
  if (napi_call_threadsafe_function(function_, result, napi_tsfn_nonblocking) != napi_ok)
    delete result;
}

void Completions::close() {
  std::unique_lock<std::shared_mutex> lock(mutex_);
  open_ = false;
}

void Completions::deliver(napi_env env, napi_value callback, void* context, void* data) {
  const std::unique_ptr<Result> result(static_cast<Result*>(data));
  if (env == nullptr) return;  // the environment is ending
  auto* self = static_cast<Completions*>(context);
  if (const auto found = self->targets_.find(result->id); found != self->targets_.end()) {
    if (found->second != nullptr) napi_delete_reference(env, found->second);
    self->targets_.erase(found);
  }
  if (self->targets_.empty()) napi_unref_threadsafe_function(env, self->function_);

  napi_value args[5], undefined;
  napi_create_double(env, result->id, &args[0]);
  napi_create_int32(env, static_cast<int>(result->status.code()), &args[1]);
  napi_get_undefined(env, &undefined);
  args[2] = args[3] = args[4] = undefined;
  if (!result->status.ok()) {
    const Status::Detail& d = result->status.detail();
    napi_create_string_utf8(env, d.field.data(), d.field.size(), &args[2]);
    napi_create_string_utf8(env, d.value.data(), d.value.size(), &args[3]);
    napi_create_string_utf8(env, d.remedy.data(), d.remedy.size(), &args[4]);
  }
  napi_call_function(env, undefined, callback, 5, args, nullptr);
}

}  // namespace longspan::napi
