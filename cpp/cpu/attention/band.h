// Which keys a query sees. The mask of an attention kernel is a policy with the interface of Band:
// a half-open interval of keys per query, the interval that a run of queries touches (tiles outside
// it are skipped) and its converse for the backward pass. Kernels compare keys with per-lane bounds
// only in tiles that a bound crosses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cpp/ops/attention/problem.h"

#define LONGSPAN_BAND_INLINE inline __attribute__((always_inline))

namespace longspan::cpu {

struct Range {
  int64_t begin = 0, end = 0;
  LONGSPAN_BAND_INLINE bool empty() const { return begin >= end; }
};

// Causal and sliding-window masks with padding, one batch entry: query i stands at key i + offset,
// so that the last query meets the last key, and sees `left` keys before it and `right` after it.
struct Band {
  int64_t queries = 0, keys = 0;  // valid lengths
  int64_t offset = 0;
  int64_t left = 0, right = 0;

  LONGSPAN_BAND_INLINE int64_t first(int64_t i) const {
    return std::clamp<int64_t>(i + offset - left, 0, keys);
  }
  LONGSPAN_BAND_INLINE int64_t end(int64_t i) const {
    return std::clamp<int64_t>(i + offset + right + 1, 0, keys);
  }
  // Keys seen by any of the queries [begin, end); both bounds grow with the query.
  LONGSPAN_BAND_INLINE Range keysOf(int64_t begin, int64_t stop) const {
    if (begin >= stop) return {};
    return {first(begin), end(stop - 1)};
  }
  // Queries that see any of the keys [begin, end).
  LONGSPAN_BAND_INLINE Range queriesOf(int64_t begin, int64_t stop) const {
    if (begin >= stop) return {};
    return {std::clamp<int64_t>(begin - offset - right, 0, queries),
            std::clamp<int64_t>(stop - offset + left, 0, queries)};
  }
};

// A length beyond every sequence (problem.cc bounds them), small enough for 32-bit sums.
inline constexpr int64_t kUnbounded = int64_t{1} << 30;

// The band of each batch entry. Lengths are read now, when the task runs.
inline Status bandsOf(const ops::AttentionProblem& p, std::vector<Band>& bands) {
  const auto length = [](const char* field, const TensorView& t, int64_t b, int64_t most,
                         int64_t& out) -> Status {
    out = most;
    if (!t.defined()) return {};
    out = t.data<int32_t>()[b * t.stride[0]];
    if (out >= 0 && out <= most) return {};
    return Status(Code::failed, field,
                  "length " + std::to_string(out) + " of batch entry " + std::to_string(b),
                  "Lengths must be 0 to " + std::to_string(most));
  };
  bands.resize(static_cast<size_t>(p.batch()));
  for (int64_t b = 0; b < p.batch(); ++b) {
    Band& band = bands[static_cast<size_t>(b)];
    LONGSPAN_RETURN_IF_ERROR(length("queryLengths", p.queryLengths, b, p.queries(), band.queries));
    LONGSPAN_RETURN_IF_ERROR(length("keyLengths", p.keyLengths, b, p.keys(), band.keys));
    band.offset = band.keys - band.queries;
    band.left = p.windowLeft < 0 ? kUnbounded : std::min(p.windowLeft, kUnbounded);
    band.right = p.windowRight < 0 ? kUnbounded : std::min(p.windowRight, kUnbounded);
    if (p.causal) band.right = std::min<int64_t>(band.right, 0);
  }
  return {};
}

}  // namespace longspan::cpu
