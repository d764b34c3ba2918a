// What a launch has found. Texts are put together while a kernel runs, on its small stacks; program
// counters in them stay symbolic (atLine) until the launch ends and source lines are looked up.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

namespace longspan::emulator {

// A place holder for the source line of a return address.
std::string atLine(const void* pc);

// Replaces place holders by file:line, asking addr2line once per binary and place. Slow: called
// when somebody reads the texts.
void resolveLines(std::vector<std::string>& texts);

class Reports {
 public:
  // One text per key.
  void add(const std::string& key, const std::string& text);
  // True the first time for a pair of places: most findings repeat for every thread.
  bool firstTime(const void* pc, const void* otherPc) {
    return places_.insert({pc, otherPc}).second;
  }
  void clear();
  bool empty() const { return texts_.empty(); }
  std::vector<std::string> take();

 private:
  std::set<std::string> keys_;
  std::set<std::pair<const void*, const void*>> places_;
  std::vector<std::string> texts_;
};

}  // namespace longspan::emulator
