// Which GPUs a build has code for.
#pragma once

#include <string_view>

namespace longspan::cuda {

// Whether one of `architectures`, as LONGSPAN_CUDA_ARCHITECTURES lists them, runs on a GPU of this
// compute capability. Code runs on later minors of its major version; `90a` on 9.0 alone, `100f` on
// its family; PTX (`120-virtual`) on everything later.
constexpr bool haveCodeFor(std::string_view architectures, int major, int minor) {
  while (!architectures.empty()) {
    const size_t comma = architectures.find(',');
    std::string_view name = architectures.substr(0, comma);
    architectures.remove_prefix(comma == std::string_view::npos ? architectures.size() : comma + 1);
    int number = 0;
    for (; !name.empty() && name[0] >= '0' && name[0] <= '9'; name.remove_prefix(1)) {
      number = number * 10 + (name[0] - '0');
    }
    const int capability = major * 10 + minor;
    if (number == capability) return true;
    const bool exact = name.substr(0, 1) == "a", ptx = name == "-virtual";
    const bool sameMajor = number / 10 == major;
    if (!exact && number < capability && (sameMajor || ptx)) return true;
  }
  return false;
}

static_assert(haveCodeFor("80,90a", 8, 0) && haveCodeFor("80,90a", 8, 9));
static_assert(haveCodeFor("80,90a", 9, 0) && !haveCodeFor("80,90a", 10, 0));
static_assert(!haveCodeFor("90a", 8, 0) && !haveCodeFor("86", 8, 0) && !haveCodeFor("", 8, 0));
static_assert(haveCodeFor("100f", 10, 3) && !haveCodeFor("100a", 10, 3));
static_assert(haveCodeFor("80,90-virtual", 12, 0) && !haveCodeFor("80,120-virtual", 10, 0));

}  // namespace longspan::cuda
