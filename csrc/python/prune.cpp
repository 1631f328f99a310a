#include "python/prune.h"

#include "python/prune_binding.h"

namespace strop {

void bind_prune(pybind11::module_& cpu, pybind11::module_& reference) {
  bind(cpu, kPruneArrayOps<InForce>, "on the instruction set in force, in this thread");
  bind(reference, kPruneArrayOps<ByOracle>, "by the reference loop");
}

}  // namespace strop
