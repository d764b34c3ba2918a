#include "cpp/core/tensor_view.h"

namespace longspan {

std::string describe(const TensorView& view) {
  if (!view.defined()) return "absent";
  std::string text = nameOf(view.dtype);
  text += '[';
  for (int i = 0; i < view.rank; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(view.shape[i]);
  }
  return text + ']';
}

}  // namespace longspan
