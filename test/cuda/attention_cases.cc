#include "test/cuda/attention_case.h"

namespace longspan::attention_test {

std::vector<Case> attentionCases() {
  std::vector<Case> cases;
  for (const DType t : kTypes) {
    cases.push_back({"one", t, 1, 1, 1, 1, 1, 1, 1});
    cases.push_back({"full", t, 1, 2, 1, 113, 203, 64, 64});
    cases.push_back({"causal", t, 1, 1, 1, 150, 150, 40, 40, true});
    cases.push_back({"causal, more keys", t, 1, 1, 1, 70, 199, 72, 24, true});
    cases.push_back({"causal, fewer keys", t, 1, 1, 1, 140, 37, 16, 20, true});
    cases.push_back({"causal wide", t, 1, 1, 1, 131, 131, 128, 128, true});
    cases.push_back({"causal widest", t, 1, 1, 1, 70, 70, 256, 250, true});
    cases.push_back({"window", t, 1, 1, 1, 200, 200, 32, 32, false, 20, 5});
    cases.push_back({"causal window", t, 2, 2, 1, 180, 190, 24, 24, true, 33});
    cases.push_back(
        {"lengths", t, 3, 1, 1, 70, 90, 64, 64, true, -1, -1, 0, 0, {90, 17, 0}, {70, 33, 5}});
    cases.push_back({"softcap", t, 1, 1, 1, 40, 70, 64, 64, false, -1, -1, 2.0, 0.5});
    cases.push_back({"negative scale", t, 1, 1, 1, 20, 70, 16, 16, true, -1, -1, 0, -0.7});
    cases.push_back(
        {"token major, groups", t, 2, 4, 2, 50, 66, 48, 32, true, -1, -1, 0, 0, {}, {}, true});
    cases.push_back(
        {"unaligned", t, 1, 2, 1, 33, 75, 65, 63, true, -1, -1, 0, 0, {}, {}, false, 1, 3});
    cases.push_back(
        {"padded rows", t, 1, 1, 1, 65, 65, 60, 61, true, -1, -1, 0, 0, {}, {}, false, 0, 4});
  }
  return cases;
}

std::vector<Case> decodeCases() {
  std::vector<Case> cases;
  for (const DType t : kTypes) {
    cases.push_back({"one token", t, 2, 2, 2, 1, 300, 64, 64, true, -1, -1, 0, 0, {300, 1}});
    cases.push_back({"split", t, 1, 4, 1, 1, 1100, 40, 40, true, -1, -1, 0, 0, {1001}});
    cases.push_back({"split, short", t, 1, 4, 1, 2, 1100, 128, 100, true, -1, -1, 0, 0, {70}});
    cases.push_back(
        {"groups", t, 2, 6, 2, 3, 150, 128, 128, true, -1, -1, 0, 0, {150, 64}, {3, 1}});
    cases.push_back({"many rows", t, 1, 6, 1, 8, 90, 72, 64, true, -1, -1, 0, 0, {90}});
    cases.push_back({"widest", t, 1, 2, 1, 1, 600, 256, 256, true, -1, -1, 0, 0, {599}});
    cases.push_back({"window", t, 1, 2, 1, 2, 1200, 64, 64, true, 700, -1, 0, 0, {1180}});
    cases.push_back({"empty", t, 2, 2, 1, 1, 600, 16, 16, true, -1, -1, 0, 0, {0, 520}});
    cases.push_back({"softcap", t, 1, 1, 1, 1, 80, 16, 16, true, -1, -1, 2.0, 0.5, {77}});
    cases.push_back(
        {"unaligned", t, 1, 2, 1, 1, 80, 33, 35, true, -1, -1, 0, 0, {77}, {}, false, 1, 1});
  }
  return cases;
}

}  // namespace longspan::attention_test
