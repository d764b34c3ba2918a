// Indices are checked while they are used: a kernel skips one that is out of range and reports the
// first.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "cpp/core/status.h"
#include "cpp/core/tensor_view.h"

namespace longspan::cpu {

class BadIndex {
 public:
  // `position` is the element's place in the row-major index tensor; the lowest one is reported.
  void record(int64_t position) {
    int64_t seen = first_.load(std::memory_order_relaxed);
    while (position < seen && !first_.compare_exchange_weak(seen, position)) {
    }
  }

  // ok, or the failure that names index, position and range [0, length).
  Status status(const char* field, const TensorView& index, int64_t length) const {
    int64_t position = first_.load();
    if (position == INT64_MAX) return {};
    std::string place;
    int64_t offset = 0;
    for (int i = index.rank - 1; i >= 0; --i) {
      const int64_t at = position % index.shape[i];
      position /= index.shape[i];
      offset += at * index.stride[i];
      place = std::to_string(at) + (place.empty() ? "" : ", ") + place;
    }
    const std::string range =
        length == 0 ? "There is nothing to index: the axis has length 0"
                    : "Indices along this axis go from 0 to " + std::to_string(length - 1);
    return Status(Code::failed, field,
                  std::to_string(index.data<int32_t>()[offset]) + " at position [" + place + "]",
                  range);
  }

 private:
  std::atomic<int64_t> first_{INT64_MAX};
};

}  // namespace longspan::cpu
