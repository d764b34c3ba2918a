#include "cpp/cpu/attention/terms.h"

#include <limits>

#include "cpp/cpu/attention/score.h"

namespace longspan::cpu::LONGSPAN_LEVEL {

Terms::Seen Terms::seen(const Pairs& t) const {
  Seen result;
  if (p_.querySegments.defined()) addSegments(t, result);
  if (mask_.defined() && !result.none) addMask(t, result);
  return result;
}

TermTiles Terms::tiles(const Pairs& t, Seen seen, int64_t width, float* scratch) const {
  TermTiles result;
  if (p_.bias.defined() || p_.alibiSlopes.defined() || seen.segmentsMix || seen.maskMixes) {
    addedRows(t, seen, scratch);
    result.added = spread(t.rows, t.padded, scratch, width, scratch + width * t.padded);
  }
  if (drops_) {
    for (int64_t i = 0; i < t.rows; ++i) keptRow(t, t.row + i, scratch + i * t.padded);
    result.kept = spread(t.rows, t.padded, scratch, width, scratch + 2 * width * t.padded);
  }
  return result;
}

void Terms::addedRows(const Pairs& t, Seen seen, float* out) const {
  for (int64_t i = 0; i < t.rows; ++i) addedRow(t, seen, t.row + i, out + i * t.padded);
}

void Terms::addSegments(const Pairs& t, Seen& result) const {
  const auto ends = [](const TensorView& view, int64_t b, int64_t first, int64_t count) {
    const int32_t* at = view.data<int32_t>() + b * view.stride[0] + first * view.stride[1];
    int32_t low = *at, high = *at;
    for (int64_t i = 1; i < count; ++i) {
      low = std::min(low, at[i * view.stride[1]]);
      high = std::max(high, at[i * view.stride[1]]);
    }
    return std::pair(low, high);
  };
  const auto [low, high] =
      ends(p_.querySegments, t.band->entry, t.band->queryBegin + t.row, t.rows);
  const auto [least, most] = ends(p_.keySegments, t.band->entry, t.band->keyBegin + t.key, t.keys);
  result.none = high < least || most < low;
  result.segmentsMix = low != high || least != most;
}

void Terms::addMask(const Pairs& t, Seen& result) const {
  bool hidden = true, whole = true;
  for (int64_t r = t.row / mask_.block; r <= (t.row + t.rows - 1) / mask_.block; ++r) {
    for (int64_t c = t.key / mask_.block; c <= (t.key + t.keys - 1) / mask_.block; ++c) {
      const int32_t slot = mask_.find(t.band->entry, t.head, r, c);
      hidden = hidden && slot == kHiddenBlock;
      whole = whole && slot == kWholeBlock;
    }
  }
  result.none = hidden;
  result.maskMixes = !whole;
}

void Terms::addedRow(const Pairs& t, Seen seen, int64_t i, float* row) const {
  const int64_t b = t.band->entry;
  const float log2e = static_cast<float>(kLog2E);
  std::fill_n(row, t.padded, 0.0f);
  if (p_.bias.defined()) {
    const TensorView& bias = p_.bias;
    const int64_t at =
        b * bias.stride[0] + t.head * bias.stride[1] + i * bias.stride[2] + t.key * bias.stride[3];
    dispatchFloating(bias.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      if constexpr (!std::is_same_v<T, double>) {
        const T* from = bias.data<T>() + at;
        for (int64_t j = 0; j < t.keys; ++j) row[j] = log2e * load(from[j * bias.stride[3]]);
      }
    });
  }
  if (p_.alibiSlopes.defined()) {
    const TensorView& slopes = p_.alibiSlopes;
    const float slope =
        log2e * slopes.data<float>()[b * slopes.stride[0] + t.head * slopes.stride[1]];
    const auto from = static_cast<int32_t>(i + t.band->offset - t.key);
    for (int32_t j = 0; j < t.keys; ++j) row[j] -= slope * static_cast<float>(std::abs(from - j));
  }
  if (seen.segmentsMix) {
    const TensorView &queries = p_.querySegments, &keys = p_.keySegments;
    const int32_t own =
        queries
            .data<int32_t>()[b * queries.stride[0] + (t.band->queryBegin + i) * queries.stride[1]];
    const int32_t* other =
        keys.data<int32_t>() + b * keys.stride[0] + (t.band->keyBegin + t.key) * keys.stride[1];
    for (int64_t j = 0; j < t.keys; ++j) {
      if (other[j * keys.stride[1]] != own) row[j] = -std::numeric_limits<float>::infinity();
    }
  }
  if (seen.maskMixes) hideMasked(t, i, row);
}

void Terms::hideMasked(const Pairs& t, int64_t i, float* row) const {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < t.keys;) {
    const int64_t key = t.key + j, column = key / mask_.block, first = key % mask_.block;
    const int64_t end = std::min(t.keys, j + mask_.block - first);
    const int32_t slot = mask_.find(t.band->entry, t.head, i / mask_.block, column);
    if (slot == kHiddenBlock) std::fill(row + j, row + end, kNone);
    if (slot >= 0) {
      const uint8_t* bits = mask_.bits(slot, i);
      for (int64_t c = first, k = j; k < end; ++c, ++k) {
        if ((bits[c / 8] >> (c % 8) & 1) == 0) row[k] = kNone;
      }
    }
    j = end;
  }
}

void Terms::keptRow(const Pairs& t, int64_t i, float* row) const {
  const auto query = static_cast<uint64_t>(
      (t.band->entry * p_.queryHeads() + t.head) * p_.queries() + t.band->queryBegin + i);
  const uint64_t first =
      query * static_cast<uint64_t>((p_.keys() + 3) / 4) + static_cast<uint64_t>(t.key / 4);
  uint32_t words[kMostKeys + kPhiloxWords];
  const int64_t shift = t.key % 4;
  for (int64_t done = 0; done < t.keys + shift; done += kPhiloxWords) {
    philoxWords(state_, first + static_cast<uint64_t>(done / 4), words + done);
  }
  for (int64_t j = 0; j < t.keys; ++j) {
    row[j] = words[j + shift] >> 8 < threshold_ ? 0.0f : grown_;
  }
  std::fill(row + t.keys, row + t.padded, 0.0f);
}

}  // namespace longspan::cpu::LONGSPAN_LEVEL
