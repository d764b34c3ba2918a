// The outcome of anything that can fail: a code, and on failure what a person needs to mend it.
#pragma once

#include <memory>
#include <string>

namespace longspan {

// The numbers are part of the contract with lib/native.ts (ErrorCode order there).
enum class Code : uint8_t {
  ok = 0,
  dtype,
  rank,
  shape,
  device,
  value,
  disposed,
  outOfMemory,
  failed,
  unsupported,
  unavailable,
  lost,
};

class [[nodiscard]] Status {
 public:
  struct Detail {
    Code code;
    std::string field;   // argument at fault, or the operator for failures at run time
    std::string value;   // what it is, as text
    std::string remedy;  // what to do, one sentence without its full stop
  };

  Status() = default;
  Status(Code code, std::string field, std::string value, std::string remedy);

  bool ok() const { return detail_ == nullptr; }
  Code code() const { return detail_ ? detail_->code : Code::ok; }
  const Detail& detail() const { return *detail_; }

 private:
  std::shared_ptr<const Detail> detail_;
};

#define LONGSPAN_RETURN_IF_ERROR(expression)                                      \
  do {                                                                            \
    if (::longspan::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

}  // namespace longspan
