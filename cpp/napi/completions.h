// Promises that stream threads settle. A result reaches JavaScript through one thread-safe function
// per environment, never through libuv's thread pool.
#pragma once

#include <node_api.h>

#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>

#include "cpp/core/status.h"

namespace longspan::napi {

class Completions : public std::enable_shared_from_this<Completions> {
 public:
  // onSettled(id, code, field, value, remedy) is called on the JS thread.
  static std::shared_ptr<Completions> create(napi_env env, napi_value onSettled);

  // JS thread. Keeps `target` (an ArrayBuffer, or null) alive and the event loop running until `id`
  // settles.
  void begin(napi_env env, double id, napi_value target);

  // Any thread. Copies bytes into the target unless the environment has ended meanwhile.
  void settle(double id, const Status& status, void* target = nullptr, const void* source = nullptr,
              size_t bytes = 0);

  // JS thread, at the environment's end: no call and no copy happens afterwards.
  void close();

 private:
  struct Result {
    double id;
    Status status;
  };
  static void deliver(napi_env env, napi_value callback, void* context, void* data);

  std::shared_mutex mutex_;
  bool open_ = true;
  napi_threadsafe_function function_ = nullptr;
  std::unordered_map<double, napi_ref> targets_;  // JS thread only
};

}  // namespace longspan::napi
