#include "cpp/core/time_mark.h"
#include "cuda/core/gpu_lane.h"

namespace longspan {
namespace cuda {
namespace {

class GpuTimeMark final : public TimeMark {
 public:
  explicit GpuTimeMark(GpuLane& lane)
      : lane_(std::static_pointer_cast<GpuLane>(lane.shared_from_this())) {}
  ~GpuTimeMark() override {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }

  Status record() override {
    lane_->device().select();
    LONGSPAN_RETURN_IF_ERROR(statusOf(cudaEventCreate(&event_)));
    return statusOf(cudaEventRecord(event_, lane_->stream()));
  }
  Status since(TimeMark& earlier, double* seconds) override {
    float milliseconds = 0;
    LONGSPAN_RETURN_IF_ERROR(statusOf(
        cudaEventElapsedTime(&milliseconds, static_cast<GpuTimeMark&>(earlier).event_, event_)));
    *seconds = milliseconds / 1e3;
    return {};
  }

 private:
  const std::shared_ptr<GpuLane> lane_;
  cudaEvent_t event_ = nullptr;
};

}  // namespace
}  // namespace cuda

std::shared_ptr<TimeMark> cudaTimeMark(Lane& lane) {
  return std::make_shared<cuda::GpuTimeMark>(static_cast<cuda::GpuLane&>(lane));
}

}  // namespace longspan
