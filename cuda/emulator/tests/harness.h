// Test cases of the emulator: kernels and the cases that launch them stand side by side in *.cu
// files, compiled and run by scripts/emulator-tests.mjs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cuda/emulator/control.h"
#include "cuda/portable.cuh"
#include "cuda/runtime.h"

namespace longspan::cuda::test {

struct Registration {
  Registration(const char* group, const char* title, void (*run)());
};

#define LONGSPAN_CASE_NAME_(line) case_##line
#define LONGSPAN_CASE_NAME(line) LONGSPAN_CASE_NAME_(line)
#define LONGSPAN_CASE_REGISTRATION_(line) registration_##line
#define LONGSPAN_CASE_REGISTRATION(line) LONGSPAN_CASE_REGISTRATION_(line)
#define LONGSPAN_CASE(group, title)                                                       \
  static void LONGSPAN_CASE_NAME(__LINE__)();                                             \
  static const ::longspan::cuda::test::Registration LONGSPAN_CASE_REGISTRATION(__LINE__){ \
      group, title, LONGSPAN_CASE_NAME(__LINE__)};                                        \
  static void LONGSPAN_CASE_NAME(__LINE__)()

[[noreturn]] void failCase(const std::string& why);
void expect(bool condition, const std::string& what);
// No error, no finding.
void expectClean(cudaError_t error);
// The launch failed, and a finding holds this text.
void expectFinding(cudaError_t error, const char* text);
void expectError(cudaError_t error, cudaError_t wanted);
void expectClose(double got, double wanted, double tolerance, const std::string& what);

// Restores the settings when it goes.
class WithSettings {
 public:
  explicit WithSettings(const emulator::Settings& settings) : before_(emulator::settings()) {
    emulator::setSettings(settings);
  }
  ~WithSettings() { emulator::setSettings(before_); }

 private:
  emulator::Settings before_;
};

// Calls f under several schedules: seeds, late and random asynchrony, one and more blocks at a
// time.
void forSchedules(const std::function<void()>& f);

// Device memory of a case.
template <class T>
class Buffer {
 public:
  // Uninitialised.
  explicit Buffer(size_t count) : count_(count) { expectClean(cudaMalloc(&data_, bytes())); }
  explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) { upload(values); }
  Buffer(const Buffer&) = delete;
  ~Buffer() { cudaFree(data_); }
  T* get() const { return data_; }
  operator T*() const { return data_; }
  size_t bytes() const { return count_ * sizeof(T); }
  void upload(const std::vector<T>& values) const {
    expectClean(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice));
  }
  std::vector<T> download() const {
    std::vector<T> values(count_);
    expectClean(cudaMemcpy(values.data(), data_, bytes(), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

template <class T = float>
std::vector<T> filled(size_t count, T value = T{}) {
  return std::vector<T>(count, value);
}

// Small whole numbers, exact in every float type, without a pattern.
std::vector<float> wholeNumbers(size_t count, int seed, int low = -4, int high = 4);

template <class T>
std::vector<T> narrowed(const std::vector<float>& values) {
  std::vector<T> result;
  for (const float x : values) result.push_back(fromFloat<T>(x));
  return result;
}

}  // namespace longspan::cuda::test
