// Which keys a query sees. The mask of an attention kernel is a policy with the interface of Band:
// a half-open interval of keys per query, the interval that a run of queries touches (tiles outside
// it are skipped) and its converse for the backward pass. Kernels compare keys with per-lane bounds
// only in tiles that a bound crosses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cpp/cpu/attention/mask.h"
#include "cpp/ops/attention/problem.h"

#define LONGSPAN_BAND_INLINE inline __attribute__((always_inline))

namespace longspan::cpu {

struct Range {
  int64_t begin = 0, end = 0;
  LONGSPAN_BAND_INLINE bool empty() const { return begin >= end; }
};

// Causal, sliding-window and prefix masks with padding, for one sequence: a batch entry, or one of
// the sequences packed into it. Query i stands at key i + offset, so that the last query meets the
// last key, and sees `left` keys before it, `right` after it and, on that side, the prefix.
struct Band {
  int64_t queries = 0, keys = 0;  // valid lengths
  int64_t offset = 0;
  int64_t left = 0, right = 0;
  int64_t prefix = 0;
  // Where it lies: batch entry, first rows, and how many rows belong to it, padding included.
  int64_t entry = 0;
  int64_t queryBegin = 0, keyBegin = 0;
  int64_t queryRows = 0, keyRows = 0;

  LONGSPAN_BAND_INLINE int64_t first(int64_t i) const {
    return std::clamp<int64_t>(i + offset - left, 0, keys);
  }
  LONGSPAN_BAND_INLINE int64_t end(int64_t i) const {
    return std::clamp<int64_t>(i + offset + right + 1, prefix, keys);
  }
  // Keys seen by any of the queries [begin, end); both bounds grow with the query.
  LONGSPAN_BAND_INLINE Range keysOf(int64_t begin, int64_t stop) const {
    if (begin >= stop) return {};
    return {first(begin), end(stop - 1)};
  }
  // Queries that see any of the keys [begin, end).
  LONGSPAN_BAND_INLINE Range queriesOf(int64_t begin, int64_t stop) const {
    if (begin >= stop) return {};
    return {begin < prefix ? 0 : std::clamp<int64_t>(begin - offset - right, 0, queries),
            std::clamp<int64_t>(stop - offset + left, 0, queries)};
  }
};

// The rows of a sequence in a [B, H, tokens, dim] view, as the only batch entry.
inline TensorView queryRowsOf(TensorView t, const Band& band) {
  t.offset += band.entry * t.stride[0] + band.queryBegin * t.stride[2];
  return t;
}
inline TensorView keyRowsOf(TensorView t, const Band& band) {
  t.offset += band.entry * t.stride[0] + band.keyBegin * t.stride[2];
  return t;
}

// A length beyond every sequence (problem.cc bounds them), small enough for 32-bit sums.
inline constexpr int64_t kUnbounded = int64_t{1} << 30;

namespace detail {

inline Status lengthOf(const ops::AttentionProblem& p, const char* field, const TensorView& t,
                       int64_t i, int64_t most, int64_t& out) {
  if (!t.defined()) return {};
  out = t.data<int32_t>()[i * t.stride[0]];
  if (out >= 0 && out <= most) return {};
  return Status(Code::failed, field,
                "length " + std::to_string(out) +
                    (p.packed() ? " of sequence " : " of batch entry ") + std::to_string(i),
                "Lengths must be 0 to " + std::to_string(most));
}

// Rows [begin, begin + rows) of packed sequence i.
inline Status packedRows(const char* field, const TensorView& t, int64_t i, int64_t tokens,
                         int64_t& begin, int64_t& rows) {
  const auto at = [&](int64_t n) -> int64_t { return t.data<int32_t>()[n * t.stride[0]]; };
  const int64_t last = t.shape[0] - 1;
  begin = at(i);
  rows = at(i + 1) - begin;
  if (rows >= 0 && begin >= 0 && begin + rows <= tokens && at(0) == 0 && at(last) == tokens)
    return {};
  return Status(Code::failed, field,
                "from " + std::to_string(at(0)) + " to " + std::to_string(at(last)) +
                    ", sequence " + std::to_string(i) + " from " + std::to_string(begin) + " to " +
                    std::to_string(begin + rows),
                "Boundaries must ascend from 0 to the number of tokens, " + std::to_string(tokens));
}

}  // namespace detail

// The band of each sequence. Lengths are read now, when the task runs.
inline Status bandsOf(const ops::AttentionProblem& p, std::vector<Band>& bands) {
  LONGSPAN_RETURN_IF_ERROR(BlockMask::check(p));
  bands.resize(static_cast<size_t>(p.sequences()));
  if (bands.empty() && p.packed() && (p.queries() > 0 || p.keys() > 0)) {
    return Status(
        Code::failed, "cuSeqlensQ", "no sequence",
        "Boundaries must ascend from 0 to the number of tokens, " + std::to_string(p.queries()));
  }
  for (int64_t s = 0; s < p.sequences(); ++s) {
    Band& band = bands[static_cast<size_t>(s)];
    if (p.packed()) {
      LONGSPAN_RETURN_IF_ERROR(detail::packedRows("cuSeqlensQ", p.cuSeqlensQ, s, p.queries(),
                                                  band.queryBegin, band.queryRows));
      LONGSPAN_RETURN_IF_ERROR(
          detail::packedRows("cuSeqlensK", p.cuSeqlensK, s, p.keys(), band.keyBegin, band.keyRows));
    } else {
      band.entry = s;
      band.queryRows = p.queries();
      band.keyRows = p.keys();
    }
    band.queries = band.queryRows;
    band.keys = band.keyRows;
    LONGSPAN_RETURN_IF_ERROR(
        detail::lengthOf(p, "queryLengths", p.queryLengths, s, band.queryRows, band.queries));
    LONGSPAN_RETURN_IF_ERROR(
        detail::lengthOf(p, "keyLengths", p.keyLengths, s, band.keyRows, band.keys));
    LONGSPAN_RETURN_IF_ERROR(
        detail::lengthOf(p, "prefixLengths", p.prefixLengths, s, kUnbounded, band.prefix));
    band.prefix = std::min(band.prefix, band.keys);
    band.offset = band.keys - band.queries;
    band.left = p.windowLeft < 0 ? kUnbounded : std::min(p.windowLeft, kUnbounded);
    band.right = p.windowRight < 0 ? kUnbounded : std::min(p.windowRight, kUnbounded);
    if (p.causal) band.right = std::min<int64_t>(band.right, 0);
  }
  return {};
}

}  // namespace longspan::cpu
