// Capture and replay: a graph is the list of the calls in the order in which they were made, which
// every order of the streams' dependencies allows.
#include "cuda/emulator/driver.h"

using namespace longspan::emulator;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Call call;
  if (stream == nullptr) return fail(cudaErrorStreamCaptureUnsupported);
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  if (s->capture) return fail(cudaErrorStreamCaptureUnsupported, "already capturing");
  if (const cudaError_t error = checkDevice(s->device); error != cudaSuccess) return error;
  s->capture = std::make_shared<Capture>();
  s->capture->origin = s;
  s->capture->thread = std::this_thread::get_id();
  s->capture->mode = mode;
  driver().captures.insert(s->capture);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Call call;
  *graph = nullptr;
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> capture = s->capture;
  if (!capture || capture->origin != s) return fail(cudaErrorStreamCaptureUnmatched);
  bool unjoined = false;
  for (CUstream_st* other : driver().streams) {
    if (other->capture != capture) continue;
    unjoined |= other != s && other->forked;
    other->capture.reset();
    other->forked = false;
  }
  for (CUevent_st* event : driver().events) {
    if (event->capture != capture) continue;
    event->capture.reset();
    event->recorded = false;
  }
  driver().captures.erase(capture);
  if (unjoined) return fail(cudaErrorStreamCaptureUnjoined);
  if (capture->invalidated) return fail(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{capture->graph};
  driver().graphs.insert(*graph);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Call call;
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  *status = !s->capture               ? cudaStreamCaptureStatusNone
            : s->capture->invalidated ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  thread_local cudaStreamCaptureMode current = cudaStreamCaptureModeGlobal;
  std::swap(*mode, current);
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  Call call;
  if (!driver().graphs.contains(graph)) return fail(cudaErrorInvalidValue);
  const auto& all = graph->graph->nodes;
  if (nodes == nullptr) {
    *count = all.size();
    return cudaSuccess;
  }
  for (size_t i = 0; i < *count && i < all.size(); ++i) {
    nodes[i] = reinterpret_cast<cudaGraphNode_t>(all[i].get());
  }
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Call call;
  if (driver().graphs.erase(graph) == 0) return fail(cudaErrorInvalidValue);
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  Call call;
  if (!driver().graphs.contains(graph)) return fail(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{graph->graph};
  driver().executables.insert(*executable);
  return cudaSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t executable, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* result) {
  Call call;
  if (!driver().executables.contains(executable) || !driver().graphs.contains(graph)) {
    return fail(cudaErrorInvalidValue);
  }
  const auto& before = executable->graph->nodes;
  const auto& after = graph->graph->nodes;
  bool same = before.size() == after.size();
  for (size_t i = 0; same && i < after.size(); ++i) same = before[i]->kind == after[i]->kind;
  result->result = same ? cudaGraphExecUpdateSuccess : cudaGraphExecUpdateErrorTopologyChanged;
  if (!same) return fail(cudaErrorGraphExecUpdateFailure);
  executable->graph = graph->graph;
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t) {
  Call call;
  return driver().executables.contains(executable) ? cudaSuccess : fail(cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Call call;
  CUstream_st* s = resolve(stream);
  if (s == nullptr) return fail(cudaErrorInvalidResourceHandle);
  if (!driver().executables.contains(executable)) return fail(cudaErrorInvalidValue);
  if (s->capture) return fail(cudaErrorNotSupported, "a graph launched within a capture");
  if (const cudaError_t error = checkDevice(s->device); error != cudaSuccess) return error;
  const std::shared_ptr<Graph> graph = executable->graph;
  for (const auto& node : graph->nodes) {
    if (const cudaError_t error = node->run(); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  Call call;
  if (driver().executables.erase(executable) == 0) return fail(cudaErrorInvalidValue);
  delete executable;
  return cudaSuccess;
}
