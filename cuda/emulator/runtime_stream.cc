// Streams and events. Work is done when it is submitted, so waiting never waits.
#include "cuda/emulator/driver.h"

using namespace longspan::emulator;

namespace {

// During a capture the host may not ask a stream how far it is.
cudaError_t checkIdle(CUstream_st* s) {
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  if (s->capture) {
    s->capture->invalidated = true;
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  trimPools();
  return checkDevice(s->device);
}

bool alive(cudaEvent_t event) { return driver().events.contains(event); }

cudaError_t checkDone(cudaEvent_t event) {
  if (!alive(event)) return fail(cudaErrorInvalidResourceHandle);
  if (event->capture) {
    event->capture->invalidated = true;
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  trimPools();
  return checkDevice(event->device);
}

}  // namespace

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, 0); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Call call;
  if (const cudaError_t error = checkDevice(currentDevice()); error != cudaSuccess) return error;
  auto* s = new CUstream_st;
  s->device = currentDevice();
  driver().streams.insert(s);
  *stream = s;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Call call;
  if (driver().streams.erase(stream) == 0) return fail(cudaErrorInvalidResourceHandle);
  if (stream->capture) stream->capture->invalidated = true;
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Call call;
  return checkIdle(resolve(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Call call;
  return checkIdle(resolve(stream));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Call call;
  CUstream_st* s = resolve(stream);
  if (s == nullptr || !alive(event)) return fail(cudaErrorInvalidResourceHandle);
  if (!event->capture) {
    if (s->capture && event->recorded) {
      // An event of work outside the graph: a graph cannot depend on it.
      s->capture->invalidated = true;
      return fail(cudaErrorStreamCaptureInvalidated);
    }
    return cudaSuccess;
  }
  if (s->capture && s->capture != event->capture) return fail(cudaErrorStreamCaptureInvalidated);
  s->capture = event->capture;  // the stream joins the capture
  if (driver().streams.contains(event->capturedOn) && event->capturedOn != s) {
    event->capturedOn->forked = false;
    if (s != s->capture->origin) s->forked = true;
  }
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  Call call;
  if (const cudaError_t error = checkDevice(currentDevice()); error != cudaSuccess) return error;
  auto* e = new CUevent_st;
  e->device = currentDevice();
  e->timing = !(flags & cudaEventDisableTiming);
  driver().events.insert(e);
  *event = e;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Call call;
  if (driver().events.erase(event) == 0) return fail(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Call call;
  CUstream_st* s = resolve(stream);
  if (s == nullptr || !alive(event)) return fail(cudaErrorInvalidResourceHandle);
  if (event->device != s->device) return fail(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = checkDevice(s->device); error != cudaSuccess) return error;
  event->capture = s->capture;
  event->capturedOn = s->capture ? s : nullptr;
  event->recorded = true;
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Call call;
  return checkDone(event);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Call call;
  return checkDone(event);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  Call call;
  if (!alive(start) || !alive(end)) return fail(cudaErrorInvalidResourceHandle);
  if (!start->timing || !end->timing || !start->recorded || !end->recorded) {
    return fail(cudaErrorInvalidResourceHandle);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  Call call;
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  return submit(*s, Node::Kind::hostFunction, [=] {
    function(data);
    return cudaSuccess;
  });
}
