// Moments on a device's own clock, in the order of a stream's work. The time between two is what
// the device took for what lies between, without the calls that asked for it.
#pragma once

#include <memory>

#include "cpp/core/lane.h"

namespace longspan {

class TimeMark {
 public:
  virtual ~TimeMark() = default;
  // Asks for the moment at which all work so far has ended. On the stream's thread.
  virtual Status record() = 0;
  // Seconds since an earlier mark of the same lane; both moments have come.
  virtual Status since(TimeMark& earlier, double* seconds) = 0;
};

std::shared_ptr<TimeMark> timeMarkOf(Lane& lane);

// That of a GPU's lane; the backend's.
std::shared_ptr<TimeMark> cudaTimeMark(Lane& lane);

}  // namespace longspan
