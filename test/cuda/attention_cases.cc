#include <random>
#include <utility>

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

namespace {

// Runs of equal ids.
std::vector<int32_t> runs(std::initializer_list<int> lengths) {
  std::vector<int32_t> ids;
  int32_t id = -1;
  for (const int length : lengths) ids.insert(ids.end(), static_cast<size_t>(length), id++);
  return ids;
}

// Ids in no order.
std::vector<int32_t> mixed(int count, int kinds) {
  std::mt19937 generator(static_cast<unsigned>(count));
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = static_cast<int32_t>(generator() % static_cast<unsigned>(kinds)) - 1;
  return ids;
}

}  // namespace

std::vector<Case> featureCases() {
  std::vector<Case> cases;
  const auto add = [&](Case c, auto&& options) {
    options(c);
    cases.push_back(std::move(c));
  };
  for (const DType t : kTypes) {
    add({"prefix", t, 2, 1, 1, 70, 140, 64, 64, true, 50}, [](Case& c) {
      c.prefixLengths = {100, 7};
      c.keyLengths = {140, 80};
      c.queryLengths = {70, 60};
    });
    add({"packed", t, 1, 2, 1, 170, 163, 40, 24, true}, [](Case& c) {
      c.cuSeqlensQ = {0, 0, 17, 90, 91, 124, 170};
      c.cuSeqlensK = {0, 3, 20, 93, 94, 94, 163};
      c.prefixLengths = {0, 2, 50, 1, 0, 9};
      c.alibi = c.sinks = true;
      c.tokenMajor = true;
    });
    add({"packed wide, boundaries that do not fit", t, 1, 1, 1, 100, 90, 72, 128}, [](Case& c) {
      c.cuSeqlensQ = {5, 60, 40, 80, 300, 90};
      c.cuSeqlensK = {-3, 10, 70, 50, 80, 85};
      c.sinks = true;
      c.dropout = 0.25;
    });
    add({"segments", t, 1, 1, 1, 200, 200, 32, 32, true}, [](Case& c) {
      c.querySegments = c.keySegments = runs({70, 1, 60, 69});
    });
    add({"segments in no order", t, 2, 1, 1, 40, 70, 136, 130}, [](Case& c) {
      c.querySegments = mixed(80, 5);
      c.keySegments = mixed(140, 4);
    });
    const std::vector<int64_t> shapes[] = {
        {2, 2, 35, 75}, {1, 1, 35, 75}, {2, 1, 1, 75}, {1, 2, 35, 1}, {1, 1, 1, 1}};
    for (const auto& shape : shapes) {
      add({"bias", t, 2, 2, 1, 35, 75, 24, 16, true}, [&](Case& c) {
        c.bias = shape;
        c.wideBias = shape[2] != 1;
        c.softcap = shape[3] == 1 ? 2 : 0;
        c.keyLengths = {75, 41};
        c.queryLengths = {35, 20};
      });
    }
    add({"bias wide", t, 1, 1, 1, 70, 100, 100, 128}, [](Case& c) { c.bias = {1, 1, 70, 100}; });
    add({"bias widest", t, 1, 2, 1, 33, 70, 256, 200}, [](Case& c) { c.bias = {1, 2, 33, 70}; });
    add({"ALiBi", t, 2, 2, 2, 50, 80, 128, 64}, [](Case& c) {
      c.alibi = true;
      c.keyLengths = {80, 0};
    });
    add({"sinks", t, 2, 2, 1, 40, 60, 16, 16, true}, [](Case& c) {
      c.sinks = true;
      c.keyLengths = {60, 20};
      c.queryLengths = {30, 40};
    });
    add({"dropout", t, 2, 2, 1, 45, 71, 64, 60, true}, [](Case& c) { c.dropout = 0.3; });
    add({"dropout wide", t, 1, 1, 1, 70, 66, 120, 128}, [](Case& c) { c.dropout = 0.5; });
    for (const int64_t d : {20, 90, 160}) {
      add({"everything", t, 2, 2, 1, 50, 75, d, d + 8, true, 40, 3, 3, 0.4}, [](Case& c) {
        c.keyLengths = {75, 50};
        c.queryLengths = {50, 37};
        c.prefixLengths = {30, 10};
        c.querySegments = runs({30, 20, 25, 25});
        c.keySegments = runs({45, 30, 40, 35});
        c.bias = {2, 1, 50, 75};
        c.alibi = c.sinks = true;
        c.dropout = 0.2;
      });
    }
  }
  return cases;
}

std::vector<Case> hopperCases() {
  std::vector<Case> cases;
  const DType f = DType::f16, b = DType::bf16;
  cases.push_back({"hopper", b, 1, 2, 1, 203, 650, 64, 64});
  cases.push_back({"hopper causal", f, 1, 1, 1, 400, 400, 64, 40, true});
  cases.push_back({"hopper lengths", b, 2, 1, 1, 150, 470, 128, 128, true, -1, -1, 0, 0, {431, 3}});
  cases.push_back({"hopper window", f, 1, 1, 1, 300, 520, 128, 96, true, 90});
  cases.push_back({"hopper widest", b, 1, 1, 1, 130, 300, 256, 256, true});
  cases.push_back({"hopper softcap", f, 1, 1, 1, 150, 330, 64, 64, false, -1, -1, 2.0, 0.5});
  Case packed{"hopper packed", b, 1, 2, 1, 260, 420, 64, 64, true};
  packed.cuSeqlensQ = {0, 0, 97, 100, 260};
  packed.cuSeqlensK = {0, 9, 200, 205, 420};
  cases.push_back(packed);
  packed.alibi = true;
  packed.dropout = 0.2;
  cases.push_back(packed);
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
    for (const int64_t pageSize : {1, 6, 16, 100}) {
      Case paged{"pages", t, 2, 6, 2, 2, 300, 64, 64, true, -1, -1, 0, 0, {300, 41}, {2, 1}};
      paged.pageSize = pageSize;
      paged.splits = 3;
      cases.push_back(paged);
    }
    for (const int64_t d : {33, 128, 256}) {
      Case paged{"pages of a window", t, 1, 2, 1, 1, 700, d, d + (d < 256 ? 2 : 0), true, 400};
      paged.keyLengths = {611};
      paged.pageSize = 24;
      cases.push_back(paged);
    }
    for (const int64_t d : {40, 128, 250}) {
      Case terms{"terms", t, 2, 6, 2, 3, 135, d, d, true, -1, -1, 3, 0, {135, 50}, {3, 2}};
      terms.alibi = terms.sinks = true;
      terms.bias = {2, 6, 3, 135};
      terms.splits = 2;
      cases.push_back(terms);
      terms.pageSize = 9;
      terms.bias = {1, 1, 1, 135};
      cases.push_back(terms);
    }
  }
  return cases;
}

}  // namespace longspan::attention_test
