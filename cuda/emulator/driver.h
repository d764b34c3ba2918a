// The emulated runtime's own state: devices, streams, events, graphs. Everything is guarded by the
// machine's lock, which each entry point takes through Call.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cuda/emulator/global_memory.h"
#include "cuda/emulator/machine.h"
#include "cuda/emulator/runtime.h"
#include "cuda/emulator/settings.h"

namespace longspan::emulator {

struct Pool {
  uint64_t used = 0, usedHigh = 0, reserved = 0, reservedHigh = 0, threshold = 0;
};

// Work of a stream: done at once, or kept as a node of a graph.
struct Node {
  enum class Kind { kernel, copy, set, hostFunction, allocate, free, event } kind;
  std::function<cudaError_t()> run;
};

struct Graph {
  std::vector<std::shared_ptr<Node>> nodes;
  std::vector<std::shared_ptr<Allocation>> allocations;  // addresses that live as long as the graph
};

struct Capture {
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  CUstream_st* origin = nullptr;
  std::thread::id thread;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal;
  bool invalidated = false;
};

}  // namespace longspan::emulator

struct CUmemPoolHandle_st : longspan::emulator::Pool {};

struct CUstream_st {
  int device = 0;
  std::shared_ptr<longspan::emulator::Capture> capture;
  bool forked = false;  // in a capture: has work the origin has not waited for
};

struct CUevent_st {
  int device = 0;
  bool timing = true, recorded = false;
  std::chrono::steady_clock::time_point time;
  std::shared_ptr<longspan::emulator::Capture> capture;
  CUstream_st* capturedOn = nullptr;
};

struct CUgraph_st {
  std::shared_ptr<longspan::emulator::Graph> graph;
};

struct CUgraphExec_st {
  std::shared_ptr<longspan::emulator::Graph> graph;
};

namespace longspan::emulator {

struct EmulatedDevice {
  CUmemPoolHandle_st pool;
  uint64_t direct = 0;  // bytes from cudaMalloc
  bool lost = false;
  CUstream_st defaultStream;
};

struct Driver {
  EmulatedDevice devices[kMaxDevices];
  std::set<CUstream_st*> streams;
  std::set<CUevent_st*> events;
  std::set<CUgraph_st*> graphs;
  std::set<CUgraphExec_st*> executables;
  std::set<void*> hostMemory;
  std::set<std::shared_ptr<Capture>> captures;
  uint64_t launches = 0, failedLaunches = 0;
};

Driver& driver();
int& currentDevice();  // of this host thread

// Remembers an error as cudaGetLastError reports it; `text` is shown by cudaGetErrorString.
cudaError_t fail(cudaError_t error, std::string text = {});

// Holds the lock for the length of an entry point.
class Call {
 public:
  Call() : lock_(machine().lock) {}

 private:
  std::lock_guard<std::recursive_mutex> lock_;
};

// cudaErrorECCUncorrectable when this device is lost, cudaErrorNoDevice without any.
cudaError_t checkDevice(int device);
// The stream, the default one for null; null when the handle is not alive.
CUstream_st* resolve(cudaStream_t stream);
// Does the work now, or records it when the stream is being captured.
cudaError_t submit(CUstream_st& stream, Node::Kind kind, std::function<cudaError_t()> work);
// Ends with an error where the call is not allowed during a capture.
cudaError_t refuseDuringCapture();
// The host has waited: pools give back what exceeds their threshold.
void trimPools();

}  // namespace longspan::emulator
