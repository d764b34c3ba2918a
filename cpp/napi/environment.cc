#include "cpp/napi/environment.h"

namespace longspan::napi {
namespace {

void cleanUp(void* data) {
  auto* self = static_cast<Environment*>(data);
  // First no more calls into JavaScript, then the queues: what runs now ends on its own thread and
  // holds its buffers itself.
  if (self->completions) self->completions->close();
  for (const auto& stream : self->streams) {
    if (stream) stream->orphan();
  }
  self->slots.clear();
  delete self;
}

}  // namespace

Environment* Environment::create(napi_env env) {
  auto* self = new Environment();
  self->env = env;
  napi_add_env_cleanup_hook(env, cleanUp, self);
  return self;
}

void Environment::reportMemory() {
  constexpr int64_t kStep = int64_t{64} << 20;
  const int64_t delta = slots.liveBytes() - reportedBytes;
  if (delta < kStep && delta > -kStep) return;
  int64_t total;
  napi_adjust_external_memory(env, delta, &total);
  reportedBytes += delta;
}

void Environment::afterAllocation() {
  if (!slots.sweepDue()) return;
  reportMemory();  // may collect, which is what makes the sweep fruitful
  slots.sweep(env);
  reportMemory();
}

}  // namespace longspan::napi
