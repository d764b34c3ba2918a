// Stands in for the CUDA backend where it is not built.
#include "cpp/core/device.h"
#include "cpp/core/time_mark.h"
#include "cpp/ops/cublaslt_state.h"
#include "cpp/ops/operator.h"

#ifndef LONGSPAN_CUDA_STATE
#define LONGSPAN_CUDA_STATE "longspan was built without CUDA support"
#endif

namespace longspan {

Device* cudaDevice(int, std::string* why) {
  *why = LONGSPAN_CUDA_STATE;
  return nullptr;
}

Status runOnLane(const Call&, Lane&, Workspace) {
  return Status(Code::unsupported, "device", "a GPU", LONGSPAN_CUDA_STATE);
}

std::shared_ptr<TimeMark> cudaTimeMark(Lane&) { return nullptr; }

std::string cublasLtState() { return LONGSPAN_CUDA_STATE; }

}  // namespace longspan
