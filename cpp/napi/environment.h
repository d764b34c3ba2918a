// Everything one JavaScript environment (the main thread or a worker) owns.
#pragma once

#include <node_api.h>

#include <memory>
#include <vector>

#include "cpp/core/stream.h"
#include "cpp/napi/completions.h"
#include "cpp/napi/slots.h"

namespace longspan::napi {

struct Environment {
  // Doubles in the call buffer: room for the tensor lists of an optimizer over thousands of
  // tensors.
  static constexpr size_t kCallDoubles = 65536;

  napi_env env = nullptr;
  double* call = nullptr;  // the packed call, shared with lib/native.ts
  napi_ref callRef = nullptr;
  SlotTable slots;
  std::vector<std::shared_ptr<Stream>> streams;  // by stream id; null once closed
  std::vector<std::shared_ptr<Graph>> graphs;    // by graph id; null once released
  std::shared_ptr<Completions> completions;
  Status error;  // of the last failing call
  int64_t reportedBytes = 0;

  // Creates the state for `env` and ties its end to the environment's cleanup.
  static Environment* create(napi_env env);

  // Releases unreachable tensors when due.
  void afterAllocation();
  // Tells V8, in coarse steps since each report may start a collection, how much memory hangs on
  // its objects.
  void reportMemory();

  int fail(Status status) {
    error = std::move(status);
    return static_cast<int>(error.code());
  }
};

}  // namespace longspan::napi
