// How the programs of kernels run an operator on a GPU: its registered kernel, under schedules and
// both modes of asynchrony of the emulator, with what it finds. Included by one file of a program.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "test/cuda/control.h"
#include "test/cuda/device_array.h"

namespace longspan {

// The backend's, which this program goes without.
Status cuda::statusOf(cudaError_t error) {
  return Status(Code::failed, "launch", cudaGetErrorString(error), cudaGetErrorString(error));
}

namespace kernel_runs {

inline int failures = 0;

inline void fail(const std::string& what) {
  ++failures;
  std::printf("FAILED %s\n", what.c_str());
}

inline void check(const Status& status, const std::string& what) {
  if (!status.ok()) fail(what + ": refused");
}

inline double errorOf(const std::vector<double>& got, const std::vector<double>& want) {
  double worst = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    if (got[i] == want[i]) continue;  // also equal infinities
    const double error = std::fabs(got[i] - want[i]);
    if (!(error <= worst)) worst = std::isnan(error) ? INFINITY : error;
  }
  return worst;
}

inline void compare(const std::string& what, const std::vector<double>& got,
                    const std::vector<double>& truth, const std::vector<double>& rough,
                    double factor, DType type) {
  double largest = 0;
  for (const double x : truth) {
    if (std::isfinite(x)) largest = std::max(largest, std::fabs(x));
  }
  const double unit = type == DType::f32 ? 1e-6 : type == DType::f16 ? 4.9e-4 : 3.9e-3;
  const double limit = factor * errorOf(rough, truth) + 2 * unit * largest;
  const double error = errorOf(got, truth);
  if (!(error <= limit)) {
    char text[200];
    std::snprintf(text, sizeof text, ": error %.3g, at most %.3g (naive %.3g, values up to %.3g)",
                  error, limit, errorOf(rough, truth), largest);
    fail(what + text);
  }
}

// Runs the registered GPU kernel of an operator under every schedule; `results` reads the outputs.
template <class P>
std::vector<std::vector<double>> onGpu(P& p, const std::string& what,
                                       std::vector<TensorView*> outputs, int capability = 90,
                                       int seeds = 3) {
  const cuda::Gpu gpu{0, capability / 10, capability % 10, 4, 227 * 1024};
  std::vector<std::vector<double>> first;
  for (int schedule = 0; schedule < 2 * seeds; ++schedule) {
    auto settings = emulator::settings();
    settings.seed = static_cast<uint64_t>(schedule / 2 + 1);
    settings.lateAsync = schedule % 2 == 0;
    settings.residentBlocks = 2 + schedule / 2 % 3;
    emulator::setSettings(settings);
    std::vector<std::unique_ptr<Output>> memory;
    for (TensorView* t : outputs) memory.push_back(std::make_unique<Output>(*t));
    size_t bytes = 0;
    if (cuda::KernelOf<P>::workspace != nullptr) bytes = cuda::KernelOf<P>::workspace(p, gpu);
    void* workspace = nullptr;
    if (bytes > 0) cudaMalloc(&workspace, bytes);
    cuda::Context context{nullptr, {static_cast<std::byte*>(workspace), bytes}, gpu};
    const uint64_t findings = emulator::failedLaunches();
    const Status status = cuda::KernelOf<P>::run(p, context);
    cudaDeviceSynchronize();
    if (workspace != nullptr) cudaFree(workspace);
    if (!status.ok()) fail(what + ": " + status.detail().remedy);
    if (emulator::failedLaunches() != findings) {
      std::string all;
      for (const std::string& e : emulator::lastLaunch().errors) all += "\n    " + e;
      fail(what + ": findings" + all);
      return {};
    }
    if (emulator::lastLaunch().stats.ldmatrixExtraPhases != 0) fail(what + ": bank conflicts");
    std::vector<std::vector<double>> read;
    for (const auto& m : memory) read.push_back(m->read());
    if (first.empty()) {
      first = read;
      continue;
    }
    for (size_t i = 0; i < read.size(); ++i) {
      if (std::memcmp(first[i].data(), read[i].data(), read[i].size() * sizeof(double)) != 0) {
        fail(what + ": schedules differ");
      }
    }
  }
  return first;
}

}  // namespace kernel_runs
}  // namespace longspan
