#include "cpp/core/time_mark.h"

#include <chrono>

namespace longspan {
namespace {

// Work that has run has ended.
class CpuTimeMark final : public TimeMark {
 public:
  Status record() override {
    time_ = std::chrono::steady_clock::now();
    return {};
  }
  Status since(TimeMark& earlier, double* seconds) override {
    const auto& other = static_cast<CpuTimeMark&>(earlier);
    *seconds = std::chrono::duration<double>(time_ - other.time_).count();
    return {};
  }

 private:
  std::chrono::steady_clock::time_point time_{};
};

}  // namespace

std::shared_ptr<TimeMark> timeMarkOf(Lane& lane) {
  return lane.immediate() ? std::make_shared<CpuTimeMark>() : cudaTimeMark(lane);
}

}  // namespace longspan
