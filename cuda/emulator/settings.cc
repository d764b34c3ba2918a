#include "cuda/emulator/settings.h"

#include <cstdlib>
#include <cstring>
#include <mutex>

namespace longspan::emulator {
namespace {

uint64_t number(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  return std::strtoull(text, nullptr, 10);
}

bool is(const char* name, const char* value) {
  const char* text = std::getenv(name);
  return text != nullptr && std::strcmp(text, value) == 0;
}

Environment readEnvironment() {
  Environment e;
  e.settings.seed = number("LONGSPAN_EMULATED_SEED", 1);
  e.settings.checks = !is("LONGSPAN_EMULATED_CHECKS", "off");
  e.settings.lateAsync = !is("LONGSPAN_EMULATED_ASYNC", "random");
  e.settings.residentBlocks = static_cast<int>(number("LONGSPAN_EMULATED_RESIDENT", 2));
  e.devices = static_cast<int>(number("LONGSPAN_EMULATED_DEVICES", 1));
  e.memory = number("LONGSPAN_EMULATED_MEMORY", uint64_t{4} << 30);
  e.multiprocessors = static_cast<int>(number("LONGSPAN_EMULATED_SMS", 4));
  e.failLaunch = number("LONGSPAN_EMULATED_FAIL_LAUNCH", 0);
  e.loseAtLaunch = number("LONGSPAN_EMULATED_LOSE_DEVICE", 0);
  e.skipBarrier = number("LONGSPAN_EMULATED_SKIP_BARRIER", 0);
  if (e.devices > kMaxDevices) e.devices = kMaxDevices;
  return e;
}

}  // namespace

Environment& environment() {
  static Environment instance = readEnvironment();
  return instance;
}

}  // namespace longspan::emulator
