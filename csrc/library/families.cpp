#include "core/kernel_sets.h"
#include "cpu/self_test.h"

namespace strop {

const std::vector<Family>& families() {
  static const std::vector<Family> all = {
      {"quantize", cpu::has_quantize_kernels, cpu::self_test_quantize},
      {"prune", cpu::has_prune_kernels, cpu::self_test_prune},
      {"linear", cpu::has_sparse_kernels, cpu::self_test_sparse},
      {"augment", cpu::has_augment_kernels, cpu::self_test_augment},
  };
  return all;
}

}  // namespace strop
