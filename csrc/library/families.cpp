#include "library/families.h"

#include "core/kernel_sets.h"

namespace strop {

#define STROP_DECLARE(family)     \
  namespace family {              \
  bool has_kernels(Isa isa);      \
  namespace cpu {                 \
  std::string self_test(Isa isa); \
  }                               \
  }
STROP_FAMILIES(STROP_DECLARE)
#undef STROP_DECLARE

const std::vector<Family>& families() {
#define STROP_ENTRY(family) {#family, family::has_kernels, family::cpu::self_test},
  static const std::vector<Family> all = {STROP_FAMILIES(STROP_ENTRY)};
#undef STROP_ENTRY
  return all;
}

}  // namespace strop
