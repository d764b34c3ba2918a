#include "cpp/core/status.h"

#include <utility>

namespace longspan {

Status::Status(Code code, std::string field, std::string value, std::string remedy)
    : detail_(std::make_shared<Detail>(
          Detail{code, std::move(field), std::move(value), std::move(remedy)})) {}

}  // namespace longspan
