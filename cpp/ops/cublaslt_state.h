// What `longspan doctor` says of cuBLASLt.
#pragma once

#include <string>

namespace longspan {

// Whether it was found, and which products it computes. Looks for it unless it is switched off.
std::string cublasLtState();

}  // namespace longspan
