// What the files of exports share. Marshalling only: what they do lives in cpp/core and cpp/ops.
#pragma once

#include <napi.h>

#include <functional>
#include <string>

#include "cpp/napi/environment.h"

namespace longspan::napi {

using Export = Napi::Value (*)(const Napi::CallbackInfo&);

// Tensors made from host data, viewed, written, read, moved between devices.
void exportTensors(const std::function<void(const char* name, Export)>& add);
// Streams, recordings, and the devices' memory.
void exportStreams(const std::function<void(const char* name, Export)>& add);

inline Environment& environmentOf(const Napi::CallbackInfo& info) {
  return *static_cast<Environment*>(info.Data());
}

inline Napi::Value code(const Napi::CallbackInfo& info, int value) {
  return Napi::Number::New(info.Env(), value);
}

inline Stream* streamOf(Environment& e, double id) {
  const auto index = static_cast<size_t>(id);
  return index < e.streams.size() ? e.streams[index].get() : nullptr;
}

// Device ids in JavaScript: 0 is the CPU, 1 + n is cuda:n.
inline Device* deviceOf(double id) {
  std::string why;
  return id == 0 ? &cpuDevice() : cudaDevice(static_cast<int>(id) - 1, &why);
}

inline Status disposed() {
  return Status(Code::disposed, "tensor", "a disposed tensor",
                "Use it before dispose(), return it from tidy(), or retain() it before backward()");
}

inline Status capturing(const char* what) {
  return Status(Code::value, what, "called while device.capture records",
                "Read results after capture() or replay() has returned");
}

}  // namespace longspan::napi
