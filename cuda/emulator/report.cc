#include "cuda/emulator/report.h"

#include <dlfcn.h>
#include <elf.h>

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <map>

#include "cuda/emulator/settings.h"

namespace longspan::emulator {
namespace {

constexpr char kOpen = '\x01', kClose = '\x02';

struct Place {
  std::string file;    // binary
  uintptr_t address;   // as addr2line wants it
  std::string symbol;  // in case it cannot answer
};

Place placeOf(uintptr_t pc) {
  Dl_info info{};
  if (dladdr(reinterpret_cast<void*>(pc), &info) == 0) return {"", pc, "?"};
  const auto* header = static_cast<const Elf64_Ehdr*>(info.dli_fbase);
  const uintptr_t base =
      header->e_type == ET_EXEC ? 0 : reinterpret_cast<uintptr_t>(info.dli_fbase);
  char offset[32];
  std::snprintf(offset, sizeof offset, "+0x%" PRIxPTR, pc - base);
  // /proc: the path in dli_fname of an executable is as it was typed.
  const bool main = dlsym(RTLD_DEFAULT, "main") != nullptr && info.dli_fname[0] != '/';
  return {main ? "/proc/self/exe" : info.dli_fname, pc - base,
          (info.dli_sname != nullptr ? info.dli_sname : info.dli_fname) + std::string(offset)};
}

// Lines inside the emulator and the instruction wrappers are not what the reader wants to see.
bool belongsToWrapper(const std::string& line) {
  for (const char* folder : {"cuda/ptx/", "cuda/emulator/device.h", "cuda/emulator/launch.h",
                             "cuda/portable.cuh", "/include/c++/"}) {
    if (line.find(folder) != std::string::npos) return true;
  }
  return false;
}

std::string shortened(std::string line) {
  const size_t note = line.find(" (");
  if (note != std::string::npos) line.resize(note);
  const size_t root = line.rfind("/cuda/");
  if (root != std::string::npos) return line.substr(root + 1);
  const size_t slash = line.rfind('/');
  return slash == std::string::npos ? line : line.substr(slash + 1);
}

// Runs addr2line over all addresses of one binary; -i lists inlined frames innermost first, -a puts
// the address before each group.
void askForLines(const std::string& file, const std::vector<uintptr_t>& addresses,
                 std::map<uintptr_t, std::string>& lines) {
  std::string command = "addr2line -a -i -e '" + file + "'";
  for (const uintptr_t address : addresses) {
    char text[32];
    std::snprintf(text, sizeof text, " 0x%" PRIxPTR, address - 1);  // the call, not the return
    command += text;
  }
  std::FILE* pipe = popen((command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return;
  char buffer[1024];
  uintptr_t current = 0;
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) {
    std::string line(buffer);
    while (!line.empty() && line.back() == '\n') line.pop_back();
    if (line.rfind("0x", 0) == 0 && line.find(':') == std::string::npos) {
      current = std::strtoull(line.c_str(), nullptr, 16) + 1;
    } else if (line.rfind("??", 0) != 0 && !belongsToWrapper(line) && lines[current].empty()) {
      lines[current] = shortened(line);
    }
  }
  pclose(pipe);
}

}  // namespace

std::string atLine(const void* pc) {
  char text[40];
  std::snprintf(text, sizeof text, "%c%" PRIxPTR "%c", kOpen, reinterpret_cast<uintptr_t>(pc),
                kClose);
  return text;
}

void resolveLines(std::vector<std::string>& texts) {
  // Places met before: tests that expect findings meet the same ones again and again.
  static auto& known = *new std::map<uintptr_t, std::string>;
  std::map<std::string, std::map<uintptr_t, uintptr_t>> asked;  // binary -> address there -> pc
  for (const std::string& text : texts) {
    for (size_t i = text.find(kOpen); i != std::string::npos; i = text.find(kOpen, i + 1)) {
      const uintptr_t pc = std::strtoull(text.c_str() + i + 1, nullptr, 16);
      if (known.contains(pc)) continue;
      const Place place = placeOf(pc);
      known[pc] = place.symbol;
      if (!place.file.empty()) asked[place.file][place.address] = pc;
    }
  }
  for (const auto& [file, places] : asked) {
    std::vector<uintptr_t> addresses;
    for (const auto& place : places) addresses.push_back(place.first);
    std::map<uintptr_t, std::string> lines;
    askForLines(file, addresses, lines);
    for (const auto& [address, line] : lines) {
      const auto place = places.find(address);
      if (!line.empty() && place != places.end()) known[place->second] = line;
    }
  }
  for (std::string& text : texts) {
    for (size_t i = text.find(kOpen); i != std::string::npos; i = text.find(kOpen)) {
      const size_t end = text.find(kClose, i);
      text.replace(i, end - i + 1, known[std::strtoull(text.c_str() + i + 1, nullptr, 16)]);
    }
  }
}

void Reports::add(const std::string& key, const std::string& text) {
  if (!keys_.insert(key).second) return;
  if (texts_.size() < static_cast<size_t>(environment().settings.maxReports))
    texts_.push_back(text);
}

void Reports::clear() {
  keys_.clear();
  places_.clear();
  texts_.clear();
}

std::vector<std::string> Reports::take() { return std::move(texts_); }

}  // namespace longspan::emulator
