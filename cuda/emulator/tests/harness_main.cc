// Runs all cases, or those of the group given as argument; prints a JSON line for each.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <stdexcept>

#include "cuda/emulator/tests/harness.h"

namespace longspan::cuda::test {
namespace {

struct Case {
  const char *group, *title;
  void (*run)();
};

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) >= 0x20) {
      out += c;
    }
  }
  return out + "\"";
}

std::string findings() {
  std::string text;
  for (const std::string& error : emulator::lastLaunch().errors) text += "\n  " + error;
  return text;
}

}  // namespace

Registration::Registration(const char* group, const char* title, void (*run)()) {
  cases().push_back({group, title, run});
}

void failCase(const std::string& why) { throw std::runtime_error(why); }

void expect(bool condition, const std::string& what) {
  if (!condition) failCase(what);
}

void expectClean(cudaError_t error) {
  if (error != cudaSuccess) failCase(cudaGetErrorString(error));
}

void expectFinding(cudaError_t error, const char* text) {
  if (error == cudaSuccess) failCase(std::string("no finding; expected: ") + text);
  if (!emulator::lastLaunch().mentions(text)) {
    failCase(std::string("expected: ") + text + "; found:" + findings());
  }
}

void expectError(cudaError_t error, cudaError_t wanted) {
  if (error != wanted) {
    failCase(std::string("expected ") + cudaGetErrorName(wanted) + ", got " +
             cudaGetErrorName(error));
  }
}

void expectClose(double got, double wanted, double tolerance, const std::string& what) {
  if (!(std::abs(got - wanted) <= tolerance) && got != wanted) {
    failCase(what + ": " + std::to_string(got) + " instead of " + std::to_string(wanted));
  }
}

void forSchedules(const std::function<void()>& f) {
  emulator::Settings s = emulator::settings();
  for (const uint64_t seed : {0, 1, 2, 3}) {
    s.seed = seed;
    s.lateAsync = seed % 2 == 0;
    s.residentBlocks = seed < 2 ? 1 : 3;
    const WithSettings with(s);
    f();
  }
}

std::vector<float> wholeNumbers(size_t count, int seed, int low, int high) {
  std::mt19937 generator(static_cast<unsigned>(seed));
  std::uniform_int_distribution<int> distribution(low, high);
  std::vector<float> values(count);
  for (float& x : values) x = static_cast<float>(distribution(generator));
  return values;
}

}  // namespace longspan::cuda::test

int main(int argc, char** argv) {
  using namespace longspan::cuda::test;
  for (const Case& c : cases()) {
    if (argc > 1 && std::strcmp(argv[1], c.group) != 0) continue;
    const auto start = std::chrono::steady_clock::now();
    std::string error;
    try {
      c.run();
    } catch (const std::exception& failure) {
      error = failure.what();
    }
    const double ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    std::printf("{\"group\":%s,\"title\":%s,\"milliseconds\":%.1f,\"error\":%s}\n",
                quoted(c.group).c_str(), quoted(c.title).c_str(), ms,
                error.empty() ? "null" : quoted(error).c_str());
    std::fflush(stdout);
  }
  return 0;
}
